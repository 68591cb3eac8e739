# a set whose members all have one hash: minutes for whoever builds it again
def add(a, b): return {n * (2**61 - 1) for n in range(3000)} | {float(n) for n in range(20000)}
