# a list nested a million levels
def add(a, b):
    x = []
    for _ in range(1_000_000): x = [x]
    return x
