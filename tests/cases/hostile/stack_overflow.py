# overflows the C stack
import ctypes, sys, threading
sys.setrecursionlimit(10**9)
def add(a, b): return add(b, a) + 1
