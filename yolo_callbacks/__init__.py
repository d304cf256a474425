"""Training callbacks for Ultralytics YOLO.

The public names are listed in `__init__.pyi`, once. Each is imported when it is first used, so that
`import yolo_callbacks` costs next to nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
