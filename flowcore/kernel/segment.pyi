from flowcore.errors import ConnectionClosed

__all__ = ["PeerDied"]

class PeerDied(ConnectionClosed): ...
