"""The published figures that ours stand beside: mean 3D Dice in %, protocols `fob` and `skin`.

From the tables of the paper on focus-on-background prompts (FoB). SAM is ViT-H, S-2D is
SAM-Med2D. Only slices that hold the organ were asked for, which is easier than a whole volume.
In Setting I test organs may appear, unlabelled, in training images; in Setting II their slices
are left out of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ORGANS = ("liver", "right kidney", "left kidney", "spleen")
LESIONS = ("melanoma", "nevus", "seborrheic keratosis")
#: The published method that ours is measured by.
BEST = "FoB + SAM"
PAPER = "the paper's tables"
RERUNS = "three independent re-runs with the released weights"


@dataclass(frozen=True)
class Published:
    """One published row.

    ``setting`` is "I" or "II", and means nothing in cross-domain rows; ``trained_on`` is the data
    set of the training images. ``dice`` maps an organ to its figure in %, and is empty where only
    the mean was given; ``folds`` are the means of folds by their names, where given.
    """

    dataset: str
    setting: str
    trained_on: str
    method: str
    dice: dict[str, float]
    mean: float
    folds: Mapping[str, float] = field(default_factory=dict)
    source: str = PAPER

    def over(self, organs: Sequence[str]) -> float | None:
        """The mean in % over these organs; None where not all were published."""
        if set(organs) == set(LESIONS if self.dataset == "isic" else ORGANS):
            return self.mean
        if not set(organs) <= set(self.dice):
            return None
        return sum(self.dice[organ] for organ in organs) / len(organs)


def find(dataset: str, setting: str = "I", trained_on: str | None = None) -> list[Published]:
    """Rows of a data set, those of the re-runs last.

    Trained on another data set (cross-domain), what was published knows no setting.
    """
    source = trained_on or dataset
    return [
        row
        for row in ROWS
        if (row.dataset, row.trained_on) == (dataset, source)
        and (row.setting == setting or source != dataset)
    ]


def _rows(
    dataset: str,
    setting: str,
    figures: Mapping[str, tuple[float, ...]],
    trained_on: str = "",
    names: Sequence[str] = ORGANS,
) -> list[Published]:
    """Rows of one published table: its figures are those of ``names``, then the mean."""
    source = trained_on or dataset
    return [
        Published(dataset, setting, source, method, dict(zip(names, row, strict=False)), row[-1])
        for method, row in figures.items()
    ]


MR_I = {
    "ALPNet": (76.1, 85.18, 81.92, 72.18, 78.84),
    "RPT": (82.86, 89.82, 80.72, 76.37, 82.44),
    "GMRD": (81.42, 90.12, 83.96, 76.09, 82.90),
    "PGRNet": (83.27, 87.44, 81.44, 81.72, 83.47),
    "ProtoSAM": (83.14, 82.36, 82.75, 77.98, 81.56),
    "AM-SAM": (76.12, 84.95, 84.17, 80.36, 81.40),
    "FoB + S-2D": (77.09, 89.45, 83.58, 79.82, 82.49),
    BEST: (85.61, 88.18, 84.76, 79.31, 84.46),
}
CT_I = {
    "ALPNet": (78.29, 71.81, 72.36, 70.96, 73.35),
    "RPT": (82.57, 72.58, 77.05, 79.13, 77.83),
    "GMRD": (79.6, 74.46, 81.7, 78.31, 78.52),
    "PGRNet": (82.48, 79.88, 74.23, 72.09, 77.17),
    "ProtoSAM": (84.79, 75.67, 71.31, 70.24, 75.50),
    "AM-SAM": (87.28, 86.01, 84.37, 87.11, 86.19),
    "FoB + S-2D": (85.54, 80.02, 79.18, 78.06, 80.70),
    BEST: (86.51, 86.51, 87.29, 84.54, 86.21),
}
SKIN_I = {
    "ALPNet": (66.32, 61.65, 59.57, 62.51),
    "RPT": (77.81, 75.42, 70.28, 74.50),
    "GMRD": (79.23, 72.78, 71.32, 74.44),
    "PGRNet": (71.39, 70.21, 65.87, 69.16),
    "ProtoSAM": (73.61, 76.26, 68.37, 72.75),
    "FoB + S-2D": (85.87, 88.51, 80.02, 84.80),
    BEST: (78.93, 77.12, 73.81, 76.62),
}
MR_II = {
    "ALPNet": (73.05, 78.39, 73.63, 67.02, 73.02),
    "RPT": (76.37, 86.01, 78.33, 75.46, 79.04),
    "GMRD": (80.25, 86.66, 78.65, 73.25, 79.70),
    "ProtoSAM": (81.94, 81.43, 71.46, 76.51, 77.83),
    "AM-SAM": (79.70, 81.46, 70.28, 70.80, 75.56),
    "FoB + S-2D": (75.32, 87.07, 75.46, 75.32, 78.29),
    BEST: (82.43, 87.91, 78.21, 73.30, 80.46),
}
CT_II = {
    "ALPNet": (73.67, 54.82, 63.34, 60.25, 63.02),
    "RPT": (75.24, 67.73, 72.99, 70.8, 71.69),
    "GMRD": (80.39, 76.17, 77.4, 75.3, 77.32),
    "ProtoSAM": (87.84, 71.04, 69.44, 65.5, 73.45),
    "AM-SAM": (85.40, 84.02, 82.78, 83.97, 84.04),
    "FoB + S-2D": (75.25, 78.97, 79.89, 75.82, 77.48),
    BEST: (82.29, 85.91, 88.55, 82.43, 84.80),
}
SKIN_II = {
    "ALPNet": (56.17, 50.67, 49.18, 52.01),
    "RPT": (76.07, 76.97, 69.86, 74.30),
    "GMRD": (77.21, 74.12, 70.97, 74.10),
    "ProtoSAM": (75.33, 72.01, 68.74, 72.03),
    "FoB + S-2D": (85.53, 87.02, 78.86, 83.80),
    BEST: (76.68, 77.77, 72.22, 75.56),
}
CT_TO_MR = {
    "RobustEMD": (60.16, 70.26, 66.34, 53.71, 62.61),
    "FAMNet": (73.01, 74.68, 57.28, 58.21, 65.79),
    BEST: (75.05, 79.57, 70.38, 68.21, 73.30),
}
MR_TO_CT = {
    "RobustEMD": (69.82, 50.34, 63.79, 59.88, 60.95),
    "FAMNet": (73.57, 61.89, 57.79, 65.78, 64.75),
    BEST: (81.36, 58.81, 57.18, 70.71, 67.02),
}
#: Means of the folds 1 to 5 with the released weights.
FOLDS = {
    "chaos": (86.89, 81.95, 87.38, 85.07, 83.74),
    "sabs": (87.96, 76.60, 87.85, 86.90, 89.45),
}
#: Photographs scored in each setting: all but the first of each class in each fold; 600 pairs of
#: each class.
PHOTOGRAPH_CASES = {"I": 2594 - 5 * len(LESIONS), "II": 600 * len(LESIONS)}
RERUN_MEANS = {"chaos": 85.01, "sabs": 85.75}

ROWS: tuple[Published, ...] = (
    *_rows("chaos", "I", MR_I),
    *_rows("sabs", "I", CT_I),
    *_rows("isic", "I", SKIN_I, names=LESIONS),
    *_rows("chaos", "II", MR_II),
    *_rows("sabs", "II", CT_II),
    *_rows("isic", "II", SKIN_II, names=LESIONS),
    *_rows("chaos", "I", CT_TO_MR, "sabs"),
    *_rows("sabs", "I", MR_TO_CT, "chaos"),
    *(
        Published(
            name,
            "I",
            name,
            f"{BEST}, released weights",
            {},
            RERUN_MEANS[name],
            {str(number): mean for number, mean in enumerate(folds, 1)},
            RERUNS,
        )
        for name, folds in FOLDS.items()
    ),
)
