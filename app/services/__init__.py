"""Services for the pages: jobs, studies of layers, stored runs. No Streamlit calls in here."""
