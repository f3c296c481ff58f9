"""The Streamlit app: thin. Numbers come from `trim` and `diagnostics`, through `app.services`."""
