"""The one logger: a child of Ultralytics', so that our lines appear where its lines do, and obey its settings."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("ultralytics.yolo_callbacks")
