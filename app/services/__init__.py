"""What pages ask for: jobs, studies of layers, stored runs. No Streamlit calls in here."""
