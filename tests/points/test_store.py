"""The embedded database keeps InfluxDB's rules."""

from __future__ import annotations

import sqlite3
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudburst.errors import PointsError
from cloudburst.points.fieldtypes import FIELDS_LIMIT
from cloudburst.points.parse import FieldValue, LineError, Point, Series, parse
from cloudburst.points.store import Measurement, Selection, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "deep" / "points.db")
    yield store
    store.close()


def put(store: Store, text: str) -> Counter[str]:
    return store.write(parse(text, now=0))


def stored(store: Store, measurement: str = "m", **selection: object) -> list[Point]:
    return list(store.points(Selection(measurement, **{"tags": {}, **selection})))


def test_points_come_back_by_series_and_time(store):
    put(store, "m,t=b v=1 5\nm,t=a v=2 7\nm,t=b v=3 3\nother v=4 1")

    assert stored(store) == [
        Point(Series("m", (("t", "b"),)), 3, {"v": 3.0}),
        Point(Series("m", (("t", "b"),)), 5, {"v": 1.0}),
        Point(Series("m", (("t", "a"),)), 7, {"v": 2.0}),
    ]


def test_a_point_of_the_same_series_and_time_replaces_fields_one_by_one(store):
    put(store, 'm,a=1,b=2 kept=1i,changed=2,text="old" 5')
    put(store, 'm,b=2,a=1 changed=3,text="new",added=true 5')

    (point,) = stored(store)

    assert point.fields == {"kept": 1, "changed": 3.0, "text": "new", "added": True}
    assert type(point.fields["kept"]) is int


def test_that_holds_within_one_write_too(store):
    put(store, "m a=1,b=1 5\nm b=2 5\nm b=3,c=3 5")

    assert [point.fields for point in stored(store)] == [{"a": 1.0, "b": 3.0, "c": 3.0}]


values = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**64 - 1)
    | st.booleans()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    | st.text('"\\\n{}:,\0', max_size=6)
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4) | st.text(
    '"\\$.[', min_size=1
)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("shared") / "points.db")
    yield store
    store.close()


@settings(max_examples=100, deadline=None)
@given(first=st.dictionaries(names, values, max_size=4), second=st.dictionaries(names, values, max_size=4))
def test_merged_fields_are_exactly_those_that_were_written(shared_store, first, second):
    series = Series(f"m{len(shared_store.measurements())}", (("t", '"x"'),))
    second = {name: value for name, value in second.items() if type(first.get(name, value)) is type(value)}
    expected: dict[str, FieldValue] = first | second

    shared_store.write([Point(series, 1, first), Point(series, 1, second)])

    (point,) = stored(shared_store, series.measurement)
    assert point.series == series
    assert point.fields == expected
    assert {name: type(value) for name, value in point.fields.items()} == {
        name: type(value) for name, value in expected.items()
    }


def test_a_field_keeps_its_type_and_only_points_with_another_are_refused(store):
    assert not put(store, "m v=1 1")

    refused = put(store, "m v=1i 2\nm v=2i 2\nm v=2 3\nm v=true,new=1 4\nm new=1i 5")

    conflict = (
        'field type conflict: input field "v" on measurement "m" is type {}, already exists as type float'
    )
    assert refused == {conflict.format("integer"): 2, conflict.format("boolean"): 1}
    assert [(point.time, point.fields) for point in stored(store)] == [
        (1, {"v": 1.0}),
        (3, {"v": 2.0}),
        (5, {"new": 1}),
    ]


def test_types_are_remembered_by_the_file(tmp_path):
    first = Store(tmp_path / "points.db")
    put(first, "m v=1 1")
    first.close()

    second = Store(tmp_path / "points.db")

    assert put(second, "m v=1i 1").total() == 1
    assert not put(second, "other v=1i 1")


def test_when_a_line_is_malformed_nothing_of_the_write_is_stored(store):
    with pytest.raises(LineError):
        put(store, "m,t=new v=1,w=1i 1\n" * 6000 + "malformed")

    assert stored(store) == []
    assert store.measurements() == []
    assert not put(store, "m,t=new v=1i,w=1 1")  # the types of the undone write do not count
    assert len(stored(store)) == 1


def test_points_are_selected_by_tags_and_time(store):
    put(
        store,
        "\n".join(
            f"m,node={n},kind={'pipe' if n % 2 else 'tank'} v={n} {t}" for n in range(4) for t in range(10)
        ),
    )

    assert len(stored(store)) == 40
    assert {point.fields["v"] for point in stored(store, tags={"kind": "pipe"})} == {1.0, 3.0}
    assert [p.time for p in stored(store, tags={"kind": "pipe", "node": "3"}, start=2, end=5)] == [2, 3, 4]
    assert stored(store, tags={"node": "3", "kind": "tank"}) == []
    assert stored(store, tags={"absent": "3"}) == []
    assert stored(store, "absent") == []
    assert store.count(Selection("m", {"node": "3"}, start=2)) == 8


def test_measurements_are_counted(store):
    put(store, "b,t=1 v=1 1\nb,t=2 v=1 1\nb,t=2 v=1 2\na v=1 1")

    assert store.measurements() == [Measurement("a", 1, 1), Measurement("b", 2, 3)]


def test_more_points_and_series_than_a_page_are_all_found(store):
    put(store, "\n".join(f"long v={i} {i}" for i in range(5_501)))
    put(store, "\n".join(f"wide,t={i} v={i} 1" for i in range(5_501)))

    assert [point.time for point in stored(store, "long")] == list(range(5_501))
    assert {point.fields["v"] for point in stored(store, "wide")} == set(map(float, range(5_501)))


def test_a_write_of_any_size_takes_little_memory(store):
    series = Series("m", ())
    tracemalloc.start()

    store.write(Point(series, i, {"v": float(i)}) for i in range(30_000))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7_000_000
    assert store.count(Selection("m", {})) == 30_000


def test_writers_and_readers_at_the_same_time(store):
    failures: list[Exception] = []

    def work(task) -> None:
        try:
            for i in range(20):
                task(i)
        except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
            failures.append(error)

    def write(thread: int):
        return lambda i: put(store, "\n".join(f"m,t={thread} v={j} {i * 100 + j}" for j in range(100)))

    tasks = [write(n) for n in range(3)] + [lambda i: stored(store), lambda i: store.measurements()]
    threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert store.count(Selection("m", {})) == 6000


def test_a_full_disk_is_an_error_and_afterwards_all_is_well(store):
    put(store, "m v=1 1")
    store._connection.execute("PRAGMA max_page_count=20")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        put(store, "\n".join(f"m,t={i} v={i} 1" for i in range(5_000)))
    store._connection.execute("PRAGMA max_page_count=100000")

    assert len(stored(store)) == 1
    assert not put(store, "\n".join(f"m,t={i} v={i} 1" for i in range(5_000)))
    assert len(stored(store)) == 5_001


@pytest.mark.parametrize(
    ("contents", "message"), [(b"no database" * 100, "not a database"), (None, "cannot open")]
)
def test_a_file_that_is_no_database_is_refused_by_name(tmp_path, contents, message):
    path = tmp_path / "points.db"
    path.mkdir() if contents is None else path.write_bytes(contents)

    with pytest.raises(PointsError, match=message) as caught:
        Store(path)

    assert str(path) in str(caught.value)


def test_a_database_of_another_version_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "points.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()

    with pytest.raises(PointsError, match="made by another version of CloudBurst"):
        Store(tmp_path / "points.db")


def test_a_measurement_has_a_limited_number_of_fields_and_the_others_are_stored(store):
    for part in range(3):
        names = range(part * FIELDS_LIMIT // 2, (part + 1) * FIELDS_LIMIT // 2)
        refused = put(store, "\n".join(f"m f{i}=1 {i}" for i in names))
    put(store, "m f1=2 1")

    assert refused.total() == FIELDS_LIMIT // 2
    assert 'too many fields: measurement "m" has 20000' in next(iter(refused))
    assert store.count(Selection("m", {})) == FIELDS_LIMIT
    assert not put(store, "other f1=1 1")


def test_points_of_one_time_are_added_up_in_a_time_that_does_not_depend_on_how_many_come_together(store):
    put(store, f'm text="{"x" * 1_000_000}" 1')

    put(store, "m v=1 1\n" * 50_000)

    (point,) = stored(store)
    assert point.fields == {"text": "x" * 1_000_000, "v": 1.0}


def test_a_point_does_not_grow_without_end(store):
    refused = Counter[str]()
    for number in range(10):
        refused += put(store, f'm text{number}="{"x" * 1_000_000}" 1')

    (point,) = stored(store)
    assert len(point.fields) == 4
    assert refused.total() == 6
    assert "point too large" in next(iter(refused))
    assert not put(store, "m v=1 2")


def test_a_rolled_back_write_leaves_no_field_behind(store):
    with pytest.raises(LineError):
        put(store, "m v=1 1\nbad")
    assert not put(store, 'm v="text" 1')
    assert stored(store)[0].fields == {"v": "text"}
