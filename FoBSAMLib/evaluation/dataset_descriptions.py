"""What the data sets are, wherever their files lie: organs, subjects, split and folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["volume", "photograph"]

#: Which subject of a fold, in the order of ids, is the annotated one; the others are queries.
SUPPORT_POSITION = 2


@dataclass(frozen=True)
class Fold:
    """Subjects that are tested together: the annotated one, if there is one, and the others."""

    name: str
    support: int | None
    queries: tuple[int, ...]

    @property
    def subjects(self) -> tuple[int, ...]:
        """Every subject of the fold, ascending: those that its training must not see."""
        support = () if self.support is None else (self.support,)
        return tuple(sorted({*self.queries, *support}))


@dataclass(frozen=True)
class DatasetDescription:
    """What a data set holds.

    ``folders`` are the names its preprocessed form goes by. ``organs`` maps names to label
    values, those of the published table first; ``table`` counts them. ``ids`` are the labelled
    subjects that the public has, and ``fold_positions`` the folds, by place in them. ``train``
    and ``check`` are the subjects to develop with, and ``support`` the one whose annotated
    slices serve the check subjects across volumes (None where no subject can).
    """

    name: str
    kind: Kind
    folders: tuple[str, ...]
    organs: Mapping[str, int]
    table: int
    ids: tuple[int, ...] = ()
    fold_positions: tuple[tuple[int, ...], ...] = ()
    train: tuple[int, ...] = ()
    check: tuple[int, ...] = ()
    support: int | None = None

    @property
    def table_organs(self) -> tuple[str, ...]:
        """Organs of the published table, in its order."""
        return tuple(self.organs)[: self.table]

    def folds(self) -> tuple[Fold, ...]:
        """The published folds, whether or not their subjects are on disk.

        Positions are sorted before the support is taken from them, as in the published
        evaluations: the last fold of chaos is 0 16 17 18 19, and its support is at 17.
        """
        folds = []
        for number, positions in enumerate(self.fold_positions, 1):
            subjects = [self.ids[position] for position in sorted(positions)]
            support = subjects.pop(SUPPORT_POSITION)
            folds.append(Fold(str(number), support, tuple(subjects)))
        return tuple(folds)


#: Kavur et al. 2021, "CHAOS Challenge": MR T2-SPIR, the 20 labelled cases.
CHAOS = DatasetDescription(
    name="chaos",
    kind="volume",
    folders=("chaos_t2", "chaos_MR_T2_normalized"),
    organs={"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4},
    table=4,
    ids=(1, 2, 3, 5, 8, 10, 13, 15, 19, 20, 21, 22, 31, 32, 33, 34, 36, 37, 38, 39),
    fold_positions=(
        tuple(range(0, 5)),
        tuple(range(4, 9)),
        tuple(range(8, 13)),
        tuple(range(12, 17)),
        (*range(16, 20), 0),
    ),
    train=(1, 2, 3, 5, 8, 10, 13, 15),
    check=(19, 20, 21, 22),
    support=3,
)
#: Landman et al. 2015, "Beyond the Cranial Vault": the 30 labelled abdominal CT.
SABS = DatasetDescription(
    name="sabs",
    kind="volume",
    folders=("sabs_ct", "sabs_CT_normalized"),
    organs={
        "liver": 6,
        "right kidney": 2,
        "left kidney": 3,
        "spleen": 1,
        "gallbladder": 4,
        "esophagus": 5,
        "stomach": 7,
        "aorta": 8,
        "inferior vena cava": 9,
        "portal and splenic vein": 10,
        "pancreas": 11,
        "right adrenal gland": 12,
        "left adrenal gland": 13,
    },
    table=4,
    ids=tuple(range(30)),
    fold_positions=(
        tuple(range(0, 7)),
        tuple(range(6, 13)),
        tuple(range(12, 19)),
        tuple(range(18, 25)),
        (*range(24, 30), 0),
    ),
    train=tuple(range(12)),
    check=tuple(range(12, 18)),
    support=2,
)
#: A photograph whose class is not known, or none of the three.
LESION = "lesion"
#: Codella et al. 2019, ISIC 2018 task 1: photographs, each of one class.
ISIC = DatasetDescription(
    name="isic",
    kind="photograph",
    folders=("skin",),
    organs={"melanoma": 255, "nevus": 255, "seborrheic keratosis": 255, LESION: 255},
    table=3,
)
#: The samples of TotalSegmentator: a CT (1) and an MR (2), labelled by a model.
TOTALSEG = DatasetDescription(
    name="totalseg",
    kind="volume",
    folders=("totalseg",),
    organs={"liver": 5, "right kidney": 2, "left kidney": 3, "spleen": 1},
    table=4,
    ids=(1, 2),
    check=(1, 2),
)
DATASETS = {one.name: one for one in (CHAOS, SABS, ISIC, TOTALSEG)}
