"""A snapshot is whole or absent, identified by its content, and reads nothing it cannot vouch for."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests import toy

from sevenfold.data import snapshot as snapshots
from sevenfold.data.snapshot import BadData, MissingDay, Snapshot, check, snapshot, write
from sevenfold.model.spec import ModelSpec

START = datetime(2020, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def same(left: pa.Table, right: pa.Table) -> bool:
    """Equal, with NaN equal to NaN."""
    as_text = [table.set_column(4, "width", pc.cast(table["width"], pa.string())) for table in (left, right)]
    return bool(as_text[0].equals(as_text[1]))


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return toy.spec_in(tmp_path / "models")


@pytest.fixture
def made(spec: ModelSpec, tmp_path: Path) -> Snapshot:
    return snapshot(spec, tmp_path / "data")


def test_it_gives_back_what_the_source_gave(made: Snapshot) -> None:
    rows, labels = toy.build(lambda line: None)
    assert same(made.rows(day(0), day(toy.DAYS)), rows)
    read = made.labels(day(0), day(toy.DAYS))
    assert read.select(["id", "label", "known_at"]).equals(labels)


def test_windows_are_half_open_and_columns_are_chosen(made: Snapshot) -> None:
    rows = made.rows(day(3), day(5), ["colour"])
    assert rows.column_names == ["id", "time", "day", "colour"]
    assert rows.num_rows == 2 * toy.ROWS_A_DAY
    assert pc.min(rows["time"]).as_py() == day(3)
    noon = made.rows(day(3) + timedelta(hours=12), day(4))
    assert pc.min(noon["time"]).as_py() == day(3) + timedelta(hours=12)


def test_a_label_exists_only_once_it_is_known(made: Snapshot) -> None:
    all_of_it = made.labels(day(3), day(4))
    at_noon = made.labels(day(3), day(4), known_by=day(3) + timedelta(hours=12))
    assert 0 < at_noon.num_rows < all_of_it.num_rows
    assert pc.max(at_noon["known_at"]).as_py() <= day(3) + timedelta(hours=12)


def test_labelled_rows_carry_their_own_label(made: Snapshot) -> None:
    joined = made.labelled(day(0), day(10))
    expected = dict(
        zip(*(made.labels(day(0), day(10))[name].to_pylist() for name in ("id", "label")), strict=True)
    )
    assert dict(zip(joined["id"].to_pylist(), joined["label"].to_pylist(), strict=True)) == expected
    assert joined.num_rows == 10 * toy.ROWS_A_DAY * 9 // 10


def test_the_digest_changes_with_window_and_knowledge_and_not_with_place(
    spec: ModelSpec, made: Snapshot, tmp_path: Path
) -> None:
    elsewhere = snapshot(spec, tmp_path / "elsewhere")
    digests = {
        made.digest(day(0), day(9)),
        made.digest(day(0), day(10)),
        made.digest(day(0), day(10), known_by=day(9)),
    }
    assert len(digests) == 3
    assert elsewhere.digest(day(0), day(9)) in digests


def inodes(of: Snapshot) -> dict[str, tuple[int, int]]:
    """Inode and time of the last change of every partition: the same only if it was not written again."""
    files = [path for kind in snapshots.KINDS for path in (of.folder / kind).glob("*.parquet")]
    return {str(path.relative_to(of.folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def covering(tmp_path: Path, ends: str) -> ModelSpec:
    """The toy, its data covering the days before `ends`; each has a folder of models of its own."""
    return toy.spec_in(tmp_path / ends, toy.MODEL_YAML.replace("ends: 2020-03-01", f"ends: {ends}"))


def test_only_new_partitions_are_written(tmp_path: Path) -> None:
    rows, labels = toy.build(lambda line: None)
    home, said = tmp_path / "data" / "toy", []
    soon = pc.less(rows["time"], pa.scalar(day(50), pa.timestamp("us", tz="UTC")))
    known = pc.is_in(labels["id"], value_set=rows.filter(soon)["id"].combine_chunks())
    first = write(covering(tmp_path, "2020-02-20"), home / "first", rows.filter(soon), labels.filter(known))
    before = inodes(first)
    grown = write(covering(tmp_path, "2020-03-01"), home / "grown", rows, labels, said.append)
    assert len(before) == 100
    assert {name: at for name, at in inodes(grown).items() if name in before} == before == inodes(first)
    assert len(inodes(grown)) == 120
    assert said[0] == "wrote the rows of 10 days; 50 more have not changed since an earlier snapshot"
    assert first.digest(day(0), day(49)) == grown.digest(day(0), day(49))

    late = labels.set_column(1, "label", pc.bit_wise_xor(labels["label"], pa.scalar(1, pa.int8())))
    changed = write(covering(tmp_path, "2020-03-01"), home / "changed", rows, late)
    moved = {name for name, at in inodes(changed).items() if at != inodes(grown)[name]}
    assert {name.split("/")[0] for name in moved} == {"labels"}
    assert len(moved) == 60
    assert changed.digest(day(0), day(49)) != grown.digest(day(0), day(49))


def test_a_longer_list_of_days_makes_a_new_snapshot(tmp_path: Path, made: Snapshot) -> None:
    longer = covering(tmp_path, "2020-03-02")
    with pytest.raises(MissingDay, match=r"has no rows on 2020-03-01, a day that model\.yaml says"):
        snapshot(longer, tmp_path / "data")
    assert [path.parent for path in (tmp_path / "data" / "toy").glob("*/manifest.json")] == [made.folder]


def test_an_altered_partition_is_written_anew_and_not_shared(spec: ModelSpec, made: Snapshot) -> None:
    rows, labels = toy.build(lambda line: None)
    altered = made.folder / "rows" / "2020-01-07.parquet"
    altered.write_bytes(altered.read_bytes()[:-9])
    again = write(spec, made.folder.parent / "again", rows, labels)
    assert same(again.rows(day(0), day(toy.DAYS)), rows)
    kept = {name for name, at in inodes(again).items() if at == inodes(made)[name]}
    assert set(inodes(again)) - kept == {"rows/2020-01-07.parquet"}


def test_a_missing_day_is_named(made: Snapshot) -> None:
    with pytest.raises(
        MissingDay, match="the data of toy lack 2020-03-01 and 1 more days; they have 2020-01-01"
    ):
        made.rows(day(50), day(62))
    (made.folder / "rows" / "2020-01-07.parquet").unlink()
    with pytest.raises(MissingDay, match="on 2020-01-07 are gone"):
        made.rows(day(5), day(8))
    assert made.rows(day(0), day(5)).num_rows
    with pytest.raises(MissingDay, match="no time at all"):
        made.rows(day(5), day(5))


@pytest.mark.parametrize("change", ["truncated", "flipped"])
def test_an_altered_file_is_not_read(made: Snapshot, change: str) -> None:
    path = made.folder / "labels" / "2020-01-07.parquet"
    content = bytearray(path.read_bytes())
    if change == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadData, match=r"2020-01-07.parquet is not what its manifest says"):
        made.labels(day(5), day(8))


def test_a_source_with_a_hole_or_wrong_columns_leaves_nothing(spec: ModelSpec, tmp_path: Path) -> None:
    rows, labels = toy.build(lambda line: None)
    hole = pc.not_equal(rows["day"], pa.scalar(date(2020, 1, 9)))
    kept = pc.is_in(labels["id"], value_set=rows.filter(hole)["id"].combine_chunks())
    wrong_type = rows.set_column(3, "height", pc.cast(rows["height"], pa.string()))
    faults = [
        (rows.filter(hole), labels.filter(kept), MissingDay, "no rows on 2020-01-09"),
        (wrong_type, labels, BadData, "column height of the rows of toy must be a number, but is string"),
        (rows.drop_columns("colour"), labels, BadData, "rows of toy lack the column colour"),
        (
            _stray(rows),
            labels,
            BadData,
            "rows on 2021-01-01, but model.yaml says that its data cover 2020-01-01",
        ),
        (rows.slice(5), labels, BadData, "labels of toy name a row that does not exist: toy-00001"),
    ]
    for number, (bad_rows, bad_labels, error, message) in enumerate(faults):
        folder = tmp_path / "faults" / str(number)
        with pytest.raises(error, match=message):
            write(spec, folder, bad_rows, bad_labels)
        assert not folder.exists()


def test_a_disk_that_fills_up_leaves_nothing(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, labels = toy.build(lambda line: None)
    written = []

    def full(path: Path, content: bytes, earlier: Path | None) -> bool:
        written.append(path)
        if len(written) == 30:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(b"half")
        return False

    monkeypatch.setattr(snapshots, "_write_partition", full)
    with pytest.raises(OSError, match="No space left"):
        write(spec, tmp_path / "data" / "toy" / "abc", rows, labels)
    assert list((tmp_path / "data" / "toy").iterdir()) == []


def test_what_a_killed_process_left_behind_is_cleared(spec: ModelSpec, tmp_path: Path) -> None:
    rows, labels = toy.build(lambda line: None)
    folder = tmp_path / "data" / "abc"
    (folder / "rows").mkdir(parents=True)
    (folder.parent / ".abc-half" / "rows").mkdir(parents=True)
    made = write(spec, folder, rows, labels)
    assert made.rows(day(0), day(1)).num_rows == toy.ROWS_A_DAY
    assert [path.name for path in folder.parent.iterdir()] == ["abc"]


def test_rows_are_put_in_the_order_of_time(spec: ModelSpec) -> None:
    rows, labels = toy.build(lambda line: None)
    backwards = rows.take(list(range(rows.num_rows))[::-1])
    ordered, _ = check(spec, backwards, labels)
    assert same(ordered, rows)


def _stray(rows: pa.Table) -> pa.Table:
    """The rows, those of the last day dated a year later."""
    days = [
        value.replace(year=2021, month=1, day=1) if value >= date(2020, 2, 29) else value
        for value in rows["day"].to_pylist()
    ]
    return rows.set_column(2, "day", pa.array(days, pa.date32()))


def _make(models: Path, data: Path, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    said: list[str] = []
    snapshot(toy.load_spec("toy", models), data, said.append)
    queue.put(len(said))


def test_of_several_processes_one_makes_it(spec: ModelSpec, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    arguments = (tmp_path / "models", tmp_path / "data", queue)
    processes = [context.Process(target=_make, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    spoke = sorted(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert spoke[:2] == [0, 0]
    assert spoke[2] > 0
