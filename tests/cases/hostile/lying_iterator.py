# an iterator without an end
def add(a, b):
    while True: yield 5
