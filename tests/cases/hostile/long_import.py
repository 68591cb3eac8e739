# the definition itself never ends
while True: pass
def add(a, b): return a + b
