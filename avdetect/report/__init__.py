"""The HTML report: one self-contained page per run."""

from avdetect.report.gather import gather_pictures
from avdetect.report.page import data_path, render_page, write_report
from avdetect.report.pictures import FacePicture, ReportPictures, Sound
from avdetect.report.policy import content_security_policy

__all__ = [
    "FacePicture",
    "ReportPictures",
    "Sound",
    "content_security_policy",
    "data_path",
    "gather_pictures",
    "render_page",
    "write_report",
]
