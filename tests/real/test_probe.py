import asyncio
from .test_dojo import *
from .test_dojo import ground, trials
from undercroft.queries import read_trace, unfinished_turns
async def test_probe(trials):
    case = Case("workspace", "user_task_25", "batch", "verify", "send_email")
    async with trials(case) as trial:
        for n in range(3, 30):
          for side in ("before","after"):
            await trial.reset()
            waiting = trial.ask(Act(op="run")).waiting
            one, other, last = (Act(op="approve", turn=case.task, step=s) for s in waiting)
            await trial.world.delay(300)
            [first] = trial.lives.start(trial.job(one, **{f"kill_{side}": n}))
            for _ in range(60):
                if await wrote(trial)(): break
                await asyncio.sleep(.005)
            [second] = trial.lives.run(trial.job(other, kill_after=2))
            e = trial.lives.wait(first)
            print(n, side, e.killed, second.killed, unfinished_turns(str(trial.journal)), [(s.step_id, str(s.status), len(s.decisions)) for s in read_trace(str(trial.journal), "last").steps if s.name=="send_email"])
            if not e.killed: return
async def test_early(trials):
    case = Case("banking", "user_task_15", "single", "verify")
    async with trials(case) as trial:
        await trial.world.delay(1500, at="apply")
        [first] = trial.lives.start(trial.job(Act(op="run")))
        async def sent(): return (await trial.world.clients()).held == 1
        await until(sent)
        await trial.world.delay(0, at="apply")
        trial.kill_now(first)
        await trial.look()
        await trial.run_out()
        await asyncio.sleep(2)
        print([(e.step, e.applied, e.key) for e in await trial.world.log()])
