import json

from avdetect.scan import files, predict_files


def test_pictures_that_fail_do_not_cost_the_verdict(smoke_bundle, demo_clips, tmp_path, capsys, monkeypatch):
    def fail(detector, analysis):
        raise RuntimeError("no pictures today")

    monkeypatch.setattr(files, "_pictures", fail)
    said = []
    failed = predict_files(demo_clips[:1], smoke_bundle, True, tmp_path / "page.html", said.append)
    assert json.loads(capsys.readouterr().out)["path"] == str(demo_clips[0])
    assert failed == 1 and "no pictures today" in said[0] and demo_clips[0].name in said[0]
