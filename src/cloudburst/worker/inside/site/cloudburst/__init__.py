"""What ``from cloudburst import results`` finds in a job, and in each process that a job starts."""
