"""Runs programs that models wrote, where they can do no harm, and forms the verdict outside, from plain values.

levels.py      how each level isolates
syscalls.py    system calls by number
seccomp.py     the filter of them
landlock.py    Landlock, for the calling process
spawner.py     the small process that starts and kills sandboxes
spawning.py    ... as its client
plain.py       plain values ↔ bytes
reading.py     inside: an answer's text → code
runner.py      inside: runs it, or tests of it
process.py     one sandbox, from outside
selftest.py    whether a level holds on this machine
choice.py      the level that is used
extract.py     an answer's text → the part that holds the program
expressions.py small expressions over plain values, without eval
checks.py      assert statements → calls and what to compare
judge.py       program and tests → verdict
"""
