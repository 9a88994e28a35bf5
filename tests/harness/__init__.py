"""What several suites share: servers in processes of their own, and the peers they meet."""
