"""The Learn page through AppTest: every step, every self-check, slides, and runs without what a step needs."""

import json

import pytest
from streamlit.testing.v1 import AppTest

import app.ui.common.seminar  # noqa: F401  says who asks, before a test does
from app.services.runs.store import STORE
from app.services.server import room as rooms
from app.services.server.room import Place, Room
from app.ui.learn import room as pages
from app.ui.learn.course import course
from tests.app.page import run_page, visit
from tests.app.small_runs import make_run

STEPS = course()


@pytest.fixture(autouse=True)
def _own_store(runs):
    """A run of TRIM on a tiny model, and a uniform one."""
    make_run(runs / "small", "trim", 0.5)
    make_run(runs / "even", "uniform", 0.5)


def opened(step: int | str = 1, **address: str) -> AppTest:
    return visit("learn", step=str(step), **address)


def sent(test: AppTest, kind: str = "trim_lesson") -> dict:
    """Return what a component was sent."""
    (component,) = [each for each in test.get("bidi_component") if each.proto.component_name == kind]
    if kind != "trim_lesson":
        return json.loads(component.proto.json or component.proto.mixed.json)
    data = json.loads(component.proto.mixed.json or component.proto.json)
    return data | {"steps": json.loads(data["steps"])}


@pytest.mark.parametrize("number", range(1, len(STEPS)))
def test_each_step_has_its_parts(number):
    test, step = opened(number), STEPS[number - 1]
    assert test.title[0].value == f"{number}. {step.title}"
    texts = [each.value for each in test.markdown]
    assert step.words in texts
    assert f"**What to notice.** {step.notice}" in texts
    data = sent(test)
    (shown,) = data["steps"]
    assert data["mode"] == "page"
    assert shown["alt"]
    assert len(shown["findings"]) == shown["drawing"]["frames"]
    links = [link.proto.query_string for link in test.get("page_link")]
    assert links[: len(STEPS)] == [f"step={each}" for each in range(1, len(STEPS) + 1)]
    for place in range(len(step.check.answers)):
        run_page(test, test.radio[0].set_value(place))
        told = test.success if place == step.check.right else test.info
        assert [step.check.reason in each.value for each in told] == [True]
        assert bool(test.success) == (place == step.check.right)


def test_controls_have_a_value_for_each_frame_and_the_address_names_one():
    for step in STEPS[:9]:
        picture = step.picture()
        control = picture.control
        assert len(set(control.values)) == len(control.shown) == picture.drawing.frames, step.name
        assert control.frame(None) == control.start
        assert control.frame(control.values[-1]) == picture.drawing.frames - 1
        assert control.frame("<b>") is None
        lengths = {len(column) for column in picture.numbers().values()}
        assert len(lengths) == 1 or step.name == "Gini", step.name
    assert len({step.picture().control.key for step in STEPS[:9]}) == 9


def test_three_motions_have_thirty_pictures_a_second():
    for name in ("Curves", "Iterations", "Sign"):
        picture = next(step for step in STEPS if step.name == name).picture()
        assert picture.control.rate >= 30
        assert picture.drawing.frames > 80
        assert len(set(picture.findings)) > 0.9 * picture.drawing.frames


def test_slides_say_little():
    for step in STEPS:
        assert len(step.say.split()) <= 25, step.name
        assert len(f"{step.words} {step.notice}".split()) <= 60, step.name
        assert step.notes


def test_the_address_holds_a_steps_control():
    step = STEPS[6]
    assert step.name == "Sign"
    data = sent(opened(7, outliers="80"))
    assert data["steps"][0]["control"]["shown"][data["frame"]] == "80%"
    assert "A positive rate wins" in data["steps"][0]["findings"][data["frame"]]
    data = sent(opened(7))
    assert "A negative rate wins" in data["steps"][0]["findings"][data["frame"]]
    test = opened(7, outliers="<b>8")
    assert sent(test)["frame"] == data["frame"]
    assert "which this step cannot show" in test.warning[0].value


def test_next_and_previous():
    test = opened(3, sparser="5")
    run_page(test, test.button(key="next_step").click())
    assert test.title[0].value.startswith("4.")
    assert test.query_params["step"] == ["4"] or test.query_params["step"] == "4"
    assert "sparser" not in test.query_params
    run_page(test, test.button(key="previous_step").click())
    assert test.title[0].value.startswith("3.")
    assert opened(1).button(key="previous_step").disabled
    assert opened(len(STEPS)).button(key="next_step").disabled


@pytest.mark.parametrize("asked", ["0", "99", "-1", "²", "<b>x</b>", "1e3"])
def test_a_step_that_does_not_exist(asked):
    test = opened(asked)
    assert test.title[0].value.startswith("1.")
    (warning,) = test.warning
    assert "there are the steps 1 to" in warning.value
    assert "<b>" not in warning.value.replace(r"\<b", "")


def test_the_real_layer_is_the_runs_own():
    test = opened(10)
    (shown,) = sent(test)["steps"]
    record = STORE.layer("small", "1.mlp.gate_proj")
    assert shown["control"]["values"] == ["0", "1"]
    points = [mark for mark in shown["drawing"]["marks"] if mark["tag"] == "circle"]
    assert len(points) == len(record.gini)
    assert shown["findings"][1].startswith(
        f"1.mlp.gate_proj: {len(record.gini)} rows of {record.columns} weights"
    )
    assert (
        "of the 2 layers of this kind" in shown["findings"][1] or "No learning rate" in shown["findings"][1]
    )


@pytest.mark.parametrize(
    ("step", "run", "why"),
    [
        (10, "even", "was not made by TRIM's search"),
        (10, "nothing", "There is no run nothing that can be read"),
        (11, "small", "has no perplexity"),
        (10, "<b>../x", "There is no run"),
    ],
)
def test_a_run_without_what_a_step_needs(step, run, why):
    test = opened(step, run=run)
    told = [each.value.replace("\\", "") for each in [*test.warning, *test.info]]
    if step == 10:
        assert any(why in each and "Shown instead: the demo's." in each for each in told)
        assert sent(test)["steps"][0]["control"]["values"] == ["0", "1"]
    else:
        assert any("python -m trim evaluate" in each for each in told)


def test_without_any_run_the_last_steps_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "empty"))
    test = opened(10)
    assert not test.get("bidi_component")
    assert any("python -m trim prune demo" in each.value for each in test.info)


def test_slides_hold_every_step_and_no_page():
    test = opened(3, present="1", sparser="90", reveal="1")
    data = sent(test)
    assert data["mode"] == "slides"
    assert [step["title"] for step in data["steps"]] == [step.title for step in STEPS]
    assert (data["step"], data["frame"], data["reveal"]) == (2, 90, 1)
    assert "drawing" not in data["steps"][10], "the store holds no perplexity"
    assert not test.title
    between = [link.proto for link in test.get("page_link")]
    assert {"Layer", "Model", "Learn", "Paper"} <= {link.label for link in between}
    assert {link.query_string for link in between} == {"present=1"}
    assert "0 to 2" in opened(3, present="1", reveal="9").warning[0].value


# ------------------------------------------------------------------------------------------------ in a seminar


@pytest.fixture
def room(seminar, monkeypatch) -> Room:
    """A room in which nothing has been shown."""
    made = Room(seminar, clock=lambda: 0.0)  # however slow the machine, nobody is away
    for module in (rooms, pages):
        monkeypatch.setattr(module, "ROOM", made)
    return made


def test_a_readers_page_follows_and_looks_around(seminar, room):
    test = opened(2)
    assert sent(test)["mode"] == "page"
    assert any("follows them" in each.value for each in test.caption)
    seminar.asking = "presenter"
    seminar.unlock("open sesame")
    room.show(Place(5, 40, 1, None, 3))
    seminar.asking = "reader"
    data = sent(run_page(test))
    assert (data["mode"], data["step"], data["frame"], data["reveal"]) == ("room", 5, 40, 1)
    assert not any(step["notes"] for step in data["steps"])
    assert sent(test, "trim_room") == {
        "role": "reader",
        "known": False,
        "place": {"step": 5, "frame": 40, "reveal": 1},
        "poll": {"step": 5, "counts": None, "given": 0, "mine": None},
        "note": "",
    }
    test.session_state["around"] = True
    assert sent(run_page(test))["mode"] == "page"
    assert any("room is at step 6" in each.value for each in test.caption)
    run_page(test, test.button(key="back_to_room").click())
    assert sent(test)["mode"] == "room"
    seminar.asking = "presenter"
    room.leave()
    seminar.asking = "reader"
    test.session_state["released"] = True
    assert sent(run_page(test))["mode"] == "page"
    assert any("left the slides" in each.value for each in test.info)


def test_only_the_presenters_slides_turn_the_rooms(seminar, room):
    test = opened(3, present="1")
    data = sent(test)
    assert data["seminar"] == "The room does not follow: enter the code first."
    assert [each.proto.component_name for each in test.get("bidi_component")] == ["trim_lesson"]
    seminar.unlock("open sesame")
    room.show(Place(1, 0, 1, None, 3))
    test = opened(3, present="1")
    assert sent(test)["seminar"] == "The room follows."
    told = sent(test, "trim_room")
    assert told["poll"] == {"step": 1, "counts": [0, 0, 0], "given": 0}
    lines = told["csv"].splitlines()
    assert lines[0] == "step,question,answer,right,given"
    assert len(lines) == 1 + sum(len(step.check.answers) for step in STEPS)


@pytest.mark.parametrize(
    "forged",
    [None, 7, {}, {"step": 99, "frame": 0, "reveal": 0}, {"step": 1, "frame": 10**9, "reveal": 0},
     {"step": True, "frame": 0, "reveal": 0}, {"step": 1, "frame": 0.5, "reveal": 0},
     {"step": 1, "frame": 0, "reveal": 3}, {"step": "1", "frame": 0, "reveal": 0}],
)  # fmt: skip
def test_a_forged_place_is_ignored(forged):
    pictures = [step.picture() if index < 2 else None for index, step in enumerate(STEPS)]
    assert pages.read_place(forged, STEPS, pictures, None) is None
    right = pages.read_place({"step": 1, "frame": 8, "reveal": 2, "at": 5}, STEPS, pictures, "mine")
    assert right == Place(1, 8, 2, "mine", 3)
