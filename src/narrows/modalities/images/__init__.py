"""Images: files, IDX, Parquet, hub sets and streams, and what a report shows of them."""
