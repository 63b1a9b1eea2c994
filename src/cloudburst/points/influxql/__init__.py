"""The part of InfluxQL that the local stack answers: what CloudBurst's dashboards and Grafana's editor ask.

It reads alone. Whatever else InfluxQL has is refused with a sentence that names it.
"""
