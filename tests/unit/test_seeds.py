from __future__ import annotations

import subprocess
import sys

from rapo.seeds import derive_seed


def test_value_never_changes() -> None:
    # recorded once: a change here would make every recorded run irreproducible
    assert derive_seed(7, 3, "esconv-12", 4, 0) == 9144978246720464881


def test_same_in_another_process() -> None:
    code = "from rapo.seeds import derive_seed; print(derive_seed(1, 'a'))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "99"}
    )
    assert int(out.stdout) == derive_seed(1, "a")


def test_every_part_its_type_and_place_count() -> None:
    parts = [(), (1,), (1, 2), (2, 1), (12,), ("1", 2), ("1, 2",), ("a", "b"), ("ab",), ("a", "b", "")]
    assert len({derive_seed(*p) for p in parts}) == len(parts)


def test_fits_63_bits_and_uses_them() -> None:
    seeds = [derive_seed("x", i) for i in range(2000)]
    assert len(set(seeds)) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    # with 2000 draws every one of the 63 bits is set about half of the time
    assert all(800 < sum(seed >> bit & 1 for seed in seeds) < 1200 for bit in range(63))
