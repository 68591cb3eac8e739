# a list and a dict that hold each other
def add(a, b):
    x = []; d = {"x": x}; x.append(d); x.append(x)
    return x
