"""Training in a process of its own, which may be killed; forked from one that has all imported and has run nothing."""

import multiprocessing
import os
import signal

from egohand_ros.cli.main import main

_FIT_WINDOWS = 320  # as the fixture `quickly_fitted`


def start(target, *arguments):
    """The process that calls `target`, a function of a module (not of one of pytest's)."""
    context = multiprocessing.get_context("forkserver")
    imported = ["egohand_ros.training.session", "egohand_ros.evaluation.protocol", "torch._dynamo"]
    context.set_forkserver_preload(imported)
    process = context.Process(target=_fitted_quickly, args=(target, *arguments))
    process.start()
    return process


def command(words):
    """`egohand` with these words."""
    return main(words)


def killed_after(step, folder):
    """The training of `test_loop.small_trainer`, killed by itself after a step."""
    from test_loop import make_episodes, small_trainer

    def report(done, numbers):
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    small_trainer(folder, make_episodes(), report=report).run()


def _fitted_quickly(target, *arguments):
    from egohand_ros.training import loop

    loop._FIT_WINDOWS = _FIT_WINDOWS
    target(*arguments)
