"""The dashboard: Streamlit, a client of the gateway and of nothing else."""
