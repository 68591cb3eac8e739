# an integer that takes minutes to print
def add(a, b): return 1 << 3_000_000
