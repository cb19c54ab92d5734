"""The embedded demo set: a miniature in the DFDC layout, made by the program itself.

It shows that the machine works from end to end; it says nothing about how well real deepfakes are detected.
"""

from avdetect.data.demo.dataset import make_demo

__all__ = ["make_demo"]
