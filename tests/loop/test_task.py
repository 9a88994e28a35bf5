"""HandlerTask before it is real: nothing that looks at it may crash or change what it is.

The driver is reached from Cython only; here the object is made without it, with a stand-in for the
shim, in an interpreter of its own for each kind of look.
"""

import asyncio

import pytest

SETUP = """
import asyncio, faulthandler, gc, pickle, copy, weakref
import flowcore
from flowcore.loop.task import HandlerTask

loop = flowcore.new_event_loop()
asyncio.set_event_loop(loop)

async def handler():
    return "result"

class Shim:
    live = False
    coro = handler()

    def __init__(self, task):
        self.task = task

    def materialise(self):
        if not self.live:
            self.live = True
            asyncio.Task.__init__(self.task, self.coro, loop=loop, name="handler")

task = HandlerTask.__new__(HandlerTask)
task._shim = shim = Shim(task)
"""

END = """
task = None
shim.task = None
gc.collect()
shim.coro.close()
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
print("survived")
"""


@pytest.mark.parametrize(
    "name", sorted({*dir(asyncio.Task)} - {"__init__", "__new__", "__class__", "__dict__"})
)
def test_every_attribute_can_be_looked_at_before_the_task_is_real(script, name):
    code = f"""
for _ in range(3):
    try:
        value = getattr(task, {name!r})
        repr(value)
    except (AttributeError, RuntimeError, asyncio.InvalidStateError) as error:
        print(type(error).__name__)
    try:
        setattr(task, {name!r}, getattr(task, {name!r}))
    except (AttributeError, RuntimeError, TypeError, ValueError, asyncio.InvalidStateError):
        pass
value = None
"""
    result = script(SETUP + code + END)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("survived\n")


LOOKS = {
    "repr": "assert 'HandlerTask' in repr(task) and shim.live",
    "str and format": "str(task), format(task), f'{task!r:>200}'",
    "hash": "assert hash(task) == hash(task) and not shim.live",
    "equality": "assert task == task and task != 1 and not shim.live",
    "weak reference": "ref = weakref.ref(task); assert ref() is task and not shim.live",
    "membership in all_tasks": "asyncio.all_tasks(loop)",
    "isfuture": "assert asyncio.isfuture(task) and not shim.live",
    "pickle": """
try: pickle.dumps(task)
except TypeError: pass
""",
    "copy": """
try: copy.copy(task)
except TypeError: pass
""",
    "garbage collection": "gc.collect(); gc.get_referents(task); gc.get_referrers(task)",
    "the constructor twice": "shim.materialise(); shim.materialise()",
    "cancel": "assert task.cancel('message') is True and task.cancelling() == 1 and shim.live",
    "uncancel": "task.cancel(); assert task.uncancel() == 0",
    "cancelling": "assert task.cancelling() == 0 and shim.live",
    "done": "assert task.done() is False and shim.live",
    "name": "task.set_name('new'); assert task.get_name() == 'new'",
    "coroutine": "assert task.get_coro() is shim.coro and not shim.live",
    "loop": "assert task.get_loop() is loop and shim.live",
    "stack": "task.get_stack(); task.print_stack(file=open('/dev/null', 'w'))",
    "shield": "s = asyncio.shield(task); assert shim.live; s.cancel(); s = None",
    "ensure_future": "assert asyncio.ensure_future(task) is task",
    "done callback": """
seen = []
task.add_done_callback(seen.append)
loop.run_until_complete(task)
assert seen == [task] and task.result() == 'result'
seen.clear()
""",
    "await": """
async def other(): return await task
assert loop.run_until_complete(other()) == 'result'
""",
    "wait": """
async def other(): return await asyncio.wait([task])
done, pending = loop.run_until_complete(other())
assert done == {task} and not pending
done = None
""",
    "gather and wait_for": """
async def other(): return await asyncio.gather(asyncio.wait_for(task, 5))
assert loop.run_until_complete(other()) == ['result']
""",
    "cancelled by its loop": """
task.cancel()
try: loop.run_until_complete(task)
except asyncio.CancelledError: pass
assert task.cancelled()
""",
    "current task": """
asyncio._enter_task(loop, task)
assert asyncio.current_task(loop) is task and not shim.live
asyncio._leave_task(loop, task)
""",
    "thrown away": "",
    "thrown away without a shim": "bare = HandlerTask.__new__(HandlerTask); del bare",
    "finished with an error": """
async def fail(): raise ValueError
shim.coro.close()
shim.coro = fail()
shim.materialise()
loop.run_until_complete(asyncio.wait([task]))
""",
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("debug", [False, True])
def test_looks_that_are_safe(script, look, debug):
    result = script(SETUP + f"loop.set_debug({debug})\n" + LOOKS[look] + END)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("survived\n")
    # "destroyed but pending" is what any task that is thrown away before its end says.
    errors = [line for line in result.stderr.splitlines() if "Exception ignored" in line]
    assert errors == []
