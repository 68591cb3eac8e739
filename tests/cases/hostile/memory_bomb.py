# takes memory in every way
import ctypes, mmap, os
libc = ctypes.CDLL(None)
kept = []
def add(a, b):
    while True:
        try: kept.append(bytearray(64 << 20))
        except MemoryError: break
    while True:
        try: kept.append(mmap.mmap(-1, 1 << 20))
        except (OSError, MemoryError, ValueError): break
    for _ in range(100):
        if libc.memfd_create(b"x", 0) >= 0: print("LEAK memfd")
    return 0
