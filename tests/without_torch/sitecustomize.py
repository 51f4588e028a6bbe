"""torch and its kin can't be imported, here and in every child."""

import sys
from importlib.machinery import PathFinder

BANNED = {"torch", "timm", "torchvision", "onnx", "onnxscript", "onnx_ir"}


class Without:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in BANNED:
            return None
        return PathFinder.find_spec(name, path, target)

    @staticmethod
    def invalidate_caches():
        PathFinder.invalidate_caches()

    @staticmethod
    def find_distributions(*args, **more):
        found = PathFinder.find_distributions(*args, **more)
        return (one for one in found if (one.metadata["Name"] or "").lower() not in BANNED)


sys.meta_path[:] = [Without if one is PathFinder else one for one in sys.meta_path]
