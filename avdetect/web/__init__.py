"""The web application: a queue of uploads, judged in processes of their own, shown in a browser and by REST."""

from avdetect.web.settings import Limits, Settings

__all__ = ["Limits", "Settings"]
