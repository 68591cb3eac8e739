# an exception whose text and name are hostile
class Meta(type):
    __name__ = property(lambda cls: 1 / 0)
class E(BaseException, metaclass=Meta):
    def __str__(self): raise self
def add(a, b): raise E()
