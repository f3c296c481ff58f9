"""The Streamlit app: thin. Numbers come from `trim` and `diagnostics`, through `app.services`."""

import os

# Read once, when torch is loaded. By default its threads spin where they wait for each other, and where anything else
# runs on the same cores (a browser is enough) the sweep of a layer takes seconds instead of a tenth of one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
