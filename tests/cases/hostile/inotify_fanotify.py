# watches files, and asks for interfaces that nobody needs
import ctypes
libc = ctypes.CDLL(None)
if libc.inotify_init1(0) >= 0: print("LEAK inotify")
for number in (425, 298, 321, 323, 250, 155, 165, 175):  # io_uring, perf, bpf, userfaultfd, keyctl, pivot_root, mount, init_module
    if libc.syscall(number, 0, 0, 0, 0, 0) >= 0: print("LEAK syscall", number)
def add(a, b): return 0
