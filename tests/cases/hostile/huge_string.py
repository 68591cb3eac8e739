# 300 MB of text
def add(a, b): return "x" * 300_000_000
