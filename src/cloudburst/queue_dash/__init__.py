"""queue-dash: rq-dashboard, made safe to open: it reads every job, runs no pickle and changes nothing."""
