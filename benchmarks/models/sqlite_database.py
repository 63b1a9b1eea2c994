"""A database in the working directory, and a connection that is left open in a transaction."""

import random
import sqlite3

open_connections = []


def work(params):
    database = sqlite3.connect("runs.db")
    open_connections.append(database)
    database.execute("CREATE TABLE IF NOT EXISTS runs (n INTEGER, value REAL)")
    database.execute("INSERT INTO runs VALUES (?, ?)", (params["n"], random.gauss(0, 1)))
    return {"rows": database.execute("SELECT n, value FROM runs").fetchall()}
