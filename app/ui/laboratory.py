"""The one laboratory of the server, and waiting for its jobs."""

import streamlit as st

from app.services.jobs import Cancelled, Job
from app.services.studies import Laboratory
from trim import TrimError


@st.cache_resource(show_spinner=False)
def laboratory() -> Laboratory:
    """Shared by all sessions; its model and studies are bounded there."""
    return Laboratory()


def finished(job: Job, key: object) -> object:
    """The job's result. Until there is one the page shows its progress and stops; an error is told and stops too."""
    # A layer whose inputs are in the cache takes less than this: no progress flashes by for it.
    try:
        return job.result(timeout_seconds=0.6)
    except TimeoutError:
        _progress(job)
        st.stop()
    except TrimError as error:
        st.error(str(error), icon=":material/error:")
    except Cancelled:
        st.info("Cancelled.", icon=":material/cancel:")
    except Exception:
        laboratory().forget(key)
        raise
    if st.button("Try again", icon=":material/refresh:"):
        laboratory().forget(key)
        st.rerun()
    st.stop()


@st.fragment(run_every=0.4)
def _progress(job: Job) -> None:
    if job.done:
        st.rerun()
    with st.container(border=True):
        st.markdown("**Preparing the layer**")
        st.progress(job.fraction or 0.0, text=job.words)
        st.caption("The first time takes about a minute; after that everything comes from the cache.")
