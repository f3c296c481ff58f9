"""The list of runs and the address, where a run's label changes while the browser still shows the old one."""

from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Selectbox


def page() -> None:
    import streamlit as st

    from app.ui.model.run_picker import pick_run

    st.text(pick_run({"mine": st.session_state["label"], "other": "Other"}, "other"))


def test_an_old_label_is_not_a_run(monkeypatch):
    test = AppTest.from_function(page)
    test.query_params["run"] = "mine"
    test.session_state["label"] = "Mine · running"
    test.run()
    test.session_state["label"] = "Mine · 2026-11-25"
    test.run()
    # The browser answers once more with what it showed before the run was complete.
    late = property(lambda box: WidgetState(id=box.id, string_value="Mine · running"))
    monkeypatch.setattr(Selectbox, "_widget_state", late)
    test.run()
    assert not test.warning
    assert test.query_params["run"] == "mine"
    assert test.text[0].value == "mine"


def test_a_run_that_was_cancelled_before_it_wrote_anything_is_not_said_to_have_failed():
    def page() -> None:
        import streamlit as st

        from app.services.jobs.records import JobRecord, JobState
        from app.ui.model.run_picker import choices

        class Jobs:
            def record(self, run_id):
                return JobRecord(run_id, "prune", "Mine", [], 0, 0.0, cancelled=True)

            def command_state(self, run_id):
                return JobState("failed")

        st.text(choices([], None, Jobs()))

    test = AppTest.from_function(page)
    test.query_params["run"] = "mine"
    assert test.run().text[0].value == "{'mine': 'Mine · cancelled'}"
