"""Looking through what was found: plot, uncertain slices, points, accept and discard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import Engine
from FoBSAMLib.background.jobs import Job, unforeseen
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui.messages import Messages
from FoBSAMLib.gui.plot import Bar, ReviewPlot
from FoBSAMLib.gui.points import Points
from FoBSAMLib.gui.running import Running
from FoBSAMLib.gui.views import SliceViews
from FoBSAMLib.mrml.accept import Accepted
from FoBSAMLib.mrml.run import Run, Slices, Target
from FoBSAMLib.mrml.sequences import show_time_point
from FoBSAMLib.mrml.widget_editing import WidgetEditing
from FoBSAMLib.session.warning import UNSURE

#: Milliseconds without a change after which surfaces are made.
SURFACES = 400


class Review:
    """The panel's second section: one structure in one volume at a time."""

    def __init__(
        self,
        ui: Any,
        engine: Engine,
        running: Running,
        messages: Messages,
        on_accepted: Callable[[], None],
    ) -> None:
        """``on_accepted`` is called when the user's segmentation was changed from here."""
        self._ui = ui
        self._engine = engine
        self._running = running
        self._messages = messages
        self._on_accepted = on_accepted
        self._listed: list[str] = []
        self._counted: dict[int, tuple[np.ndarray, int]] = {}
        self._filling = False
        self._following = True
        self._suggestion: Job | None = None
        self._surfaces = qt.QTimer()
        self._surfaces.setSingleShot(True)
        self._surfaces.setInterval(SURFACES)
        self._surfaces.connect("timeout()", self._make_surfaces)
        self.views = SliceViews(self._view_moved)
        self.plot = ReviewPlot(self.go_to, UNSURE)
        ui.plotLayout.addWidget(self.plot)
        self.points = Points(ui, engine, messages, self._corrected)
        for name, act in (
            ("uncertainButton", self.next_uncertain),
            ("suggestButton", self.suggest),
            ("supportButton", self.use_as_support),
            ("absentButton", self.mark_absent),
            ("acceptButton", self.accept),
            ("discardButton", self.discard),
        ):
            getattr(ui, name).connect("clicked(bool)", lambda _checked, act=act: act())
        ui.targetComboBox.connect("currentIndexChanged(int)", self._chosen)
        ui.structureComboBox.connect("currentIndexChanged(int)", self._chosen)
        ui.show3DCheckBox.connect("toggled(bool)", lambda _shown: self._show_3d())

    @property
    def target(self) -> Target | None:
        """The volume whose results are shown."""
        run, row = self._running.run, self._ui.targetComboBox.currentIndex
        return run.targets[row] if run is not None and 0 <= row < len(run.targets) else None

    @property
    def segment_id(self) -> str:
        """The structure that is shown, empty for none."""
        return str(self._ui.structureComboBox.currentData or "")

    def refresh(self) -> None:
        """Show what there is by now."""
        run, ui = self._running.run, self._ui
        if ui.reviewButton.isEnabled() != (run is not None):
            ui.reviewButton.setEnabled(run is not None)
            ui.reviewButton.collapsed = run is None
        self._list(run)
        self._follow(run)
        target = self.target
        title = _("Review of {volume}").format(volume=target.label) if target else _("Review")
        ui.reviewButton.text = title
        results = target.results(self.segment_id) if target is not None else {}
        self.plot.show_bars(self._bars(run, target, results), _slices(run, target))
        if run is not None and target is not None and target.image is not None:
            self.views.follow(target.image.ijk_to_ras, target.image.shape, run.axis)
        else:
            self.views.unfollow()
        self._show_slice()
        idle = run is not None and not self._running.under_way
        has_any = target is not None and any(target.found.values())
        ui.acceptButton.setEnabled(idle and has_any)
        ui.discardButton.setEnabled(idle)
        ui.uncertainButton.setEnabled(bool(self._uncertain(results)))
        ui.suggestButton.setEnabled(idle and target is not None and target.own)
        self._show_3d()

    def close(self) -> None:
        """Look at nothing any more: the module is left, or the scene goes."""
        self._surfaces.stop()
        self.views.unfollow()
        self.points.hide()

    def go_to(self, index: int) -> None:
        """Show a slice in the slice views."""
        target = self.target
        result = target.results(self.segment_id).get(index) if target is not None else None
        self.views.go_to(index, result.mask if result is not None else None)

    def next_uncertain(self) -> None:
        """Go to the next slice that should be looked at, after the one that is shown."""
        target = self.target
        doubtful = self._uncertain(target.results(self.segment_id)) if target is not None else []
        if doubtful:
            current = self.views.current
            after = [n for n in doubtful if current is None or n > current]
            self.go_to((after or doubtful)[0])

    def suggest(self) -> None:
        """Go to the slice whose annotation would help most."""
        run, target, segment_id = self._running.run, self.target, self.segment_id
        if run is None:
            return

        def go(index: int | None) -> None:
            if (run, target, segment_id) != (self._running.run, self.target, self.segment_id):
                return  # something else is looked at by now
            if index is None:
                self._messages.note(_("No slice is left whose annotation would help."))
                return
            self.go_to(index)
            self._messages.note(
                _(
                    "Slice {index} of {structure} would help most. If its mask is right, use it as "
                    "support; else correct it first, or paint it in the Segment Editor. If the "
                    "structure is not in it, say so: 'Not in this slice'."
                ).format(index=index, structure=run.structure_name(segment_id))
            )

        if self._suggestion is not None:
            self._suggestion.drop()
        steps = run.suggest(self._engine.conversation, segment_id)
        self._suggestion = self._engine.start(steps, on_done=go, on_failed=self._messages.error)

    def drop_edits(self) -> None:
        """Give up corrections and suggestions under way: what is asked for now counts."""
        self.points.drop()
        if self._suggestion is not None:
            self._suggestion.drop()
            self._suggestion = None

    def use_as_support(self) -> None:
        """Take the slice that is shown into the segmentation, as if it were painted."""
        run, target, index = self._running.run, self.target, self.views.current
        if run is None or target is None or index is None:
            return
        self.drop_edits()
        if self._try(lambda: run.accept_slice(target, self.segment_id, index, WidgetEditing())):
            self._changed_segmentation(target)

    def mark_absent(self) -> None:
        """The structure is not in the slice that is shown."""
        run, target, index = self._running.run, self.target, self.views.current
        if run is None or target is None or index is None:
            return
        self.drop_edits()
        if self._try(lambda: run.mark_absent(target, self.segment_id, index, WidgetEditing())):
            self._changed_segmentation(target)

    def accept(self) -> None:
        """Write what was found into the segmentation; it can be undone in the Segment Editor."""
        run, target = self._running.run, self.target
        if run is None or target is None or self._running.under_way:
            return
        problem = "" if run.lacks_segment(target) else run.problems(target)
        if problem and not slicer.util.confirmYesNoDisplay(
            _("{problem} Accept the results all the same?").format(problem=problem),
            _("The results may not fit"),
        ):
            return
        self.drop_edits()
        told: list[Accepted | None] = []
        if self._try(lambda: told.append(run.accept(target, WidgetEditing()))):
            if told[0] is not None and told[0].kept_out:
                self._messages.warn(_nothing_written(told[0]))
                return
            self._end(run, target)
            text = _told(told[0]) if told[0] is not None else _("Accepted.")
            self._messages.note(text)
            self._on_accepted()

    def discard(self) -> None:
        """Remove the preview; the segmentation stays as it is."""
        run, target = self._running.run, self.target
        if run is not None and target is not None and not self._running.under_way:
            self.drop_edits()
            run.discard(target)
            self._end(run, target)

    def _end(self, run: Run, target: Target) -> None:
        """A target is done with, and with the last one the run."""
        run.targets.remove(target)
        if not run.targets:
            self._running.drop()
        self._listed = []
        self.refresh()

    def _try(self, act: Callable[[], Any]) -> bool:
        try:
            act()
        except FoBSAMError as error:
            self._messages.error(error)
            return False
        except Exception as error:
            self._messages.error(unforeseen(error))
            return False
        return True

    def _changed_segmentation(self, target: Target) -> None:
        if target.preview is not None:
            target.preview.flush()
        self.refresh()
        self._on_accepted()

    def _list(self, run: Run | None) -> None:
        """The combo boxes: volumes and structures."""
        labels = [target.label for target in run.targets] if run is not None else []
        self._ui.targetComboBox.setVisible(len(labels) > 1)
        structures = run.drawn.structures if run is not None else ()
        listed = [*labels, *(one.segment_id for one in structures), str(id(run))]
        if listed == self._listed:
            return
        before = self.segment_id
        self._listed = listed
        self._following = True
        self._filling = True
        self._ui.targetComboBox.clear()
        self._ui.structureComboBox.clear()
        for label in labels:
            self._ui.targetComboBox.addItem(label)
        for one in structures:
            self._ui.structureComboBox.addItem(one.structure.name, one.segment_id)
        ids = [one.segment_id for one in structures]
        if before in ids:
            self._ui.structureComboBox.setCurrentIndex(ids.index(before))
        self._filling = False

    def _bars(self, run: Run | None, target: Target | None, results: Slices) -> list[Bar]:
        if run is None or target is None or target.image is None:
            self._counted.clear()
            return []
        pixel = self._pixel(run, target)
        bars = [Bar(n, pixel * self._count(n, r.mask), r.confidence) for n, r in results.items()]
        if target.own:
            drawn = next(one for one in run.drawn.structures if one.segment_id == self.segment_id)
            masks = drawn.masks.items()
            bars += [Bar(n, pixel * self._count(n, mask), None) for n, mask in masks]
        return bars

    def _count(self, index: int, mask: np.ndarray) -> int:
        """The pixels of a slice's mask, counted once: those of a whole volume take a while."""
        known = self._counted.get(index)
        if known is None or known[0] is not mask:
            known = self._counted[index] = (mask, int(np.count_nonzero(mask)))
        return known[1]

    def _pixel(self, run: Run, target: Target) -> float:
        """Area of a slice's pixel in mm²."""
        if target.image is None:
            return 0.0
        rows, columns = target.image.slice_spacing(run.axis)
        return rows * columns

    def _uncertain(self, results: Slices) -> list[int]:
        return sorted(n for n, result in results.items() if result.confidence < UNSURE)

    def _follow(self, run: Run | None) -> None:
        """During a run show the volume that it has come to, until the user chooses one."""
        if run is None or run.current not in run.targets or not self._running.under_way:
            return
        row = run.targets.index(run.current)
        if self._following and row != self._ui.targetComboBox.currentIndex:
            self._filling = True
            self._ui.targetComboBox.setCurrentIndex(row)
            self._filling = False
            self._show_target()

    def _chosen(self, _index: int) -> None:
        if not self._filling:
            self._following = False
            self._show_target()
            self.refresh()

    def _show_target(self) -> None:
        """Show the volume, and of the previews its own: others may lie in the same place."""
        run, target = self._running.run, self.target
        if run is None or target is None:
            return
        for one in run.targets:
            if one.preview is not None:
                one.preview.node.GetDisplayNode().SetVisibility(one is target)
        if target.query.point is not None:
            show_time_point(target.node, target.query.point)
        if len(run.targets) > 1:
            slicer.util.setSliceViewerLayers(background=target.node)

    def _view_moved(self, index: int | None) -> None:
        self._show_slice()

    def _show_slice(self) -> None:
        """The slice that the views show, in words and by its points."""
        run, target, index = self._running.run, self.target, self.views.current
        result = None
        if target is not None and index is not None:
            result = target.results(self.segment_id).get(index)
        self.plot.show_current(index)
        self._ui.sliceLabel.setText(self._words(run, target, index))
        own = target is not None and target.own and not self._running.under_way
        self._ui.supportButton.setEnabled(own and result is not None and bool(result.mask.any()))
        self._ui.absentButton.setEnabled(own and result is not None)
        self.points.show(run, target, self.segment_id, result)

    def _words(self, run: Run | None, target: Target | None, index: int | None) -> str:
        if run is None or target is None or index is None:
            return _("Nothing is reviewed.") if run is None else _("No view shows these slices.")
        result = target.results(self.segment_id).get(index)
        if result is None:
            drawn = {one.segment_id: one.masks for one in run.drawn.structures}
            if target.own and index in drawn.get(self.segment_id, {}):
                return _("Slice {index}: painted by you").format(index=index)
            absent = {one.segment_id: one.absent for one in run.drawn.structures}
            if target.own and index in absent.get(self.segment_id, ()):
                return _("Slice {index}: you said that it is not here").format(index=index)
            if index in target.answered.get(self.segment_id, ()):
                return _("Slice {index}: your answer counts in the next run").format(index=index)
            return _("Slice {index}: no result").format(index=index)
        what = _("judged not to hold the structure")
        if result.mask.any():
            what = _("{area:.0f} mm²").format(area=self._pixel(run, target) * result.mask.sum())
        text = _("Slice {index}: {what}, confidence {confidence:.2f}").format(
            index=index, what=what, confidence=result.confidence
        )
        return _("{slice} - look at it").format(slice=text) if _doubtful(result) else text

    def _corrected(self) -> None:
        """A slice's mask was made again from its points."""
        self.refresh()

    def _show_3d(self) -> None:
        """Have the surfaces made soon; that takes long, so once for many changes."""
        target = self.target
        if target is None or target.preview is None:
            return
        if not self._ui.show3DCheckBox.checked:
            target.preview.show_3d(False)
        elif not self._running.under_way:
            self._surfaces.start()

    def _make_surfaces(self) -> None:
        target = self.target
        if target is not None and target.preview is not None:
            target.preview.show_3d(True)


def _slices(run: Run | None, target: Target | None) -> range:
    """All slices of a target."""
    if run is None or target is None or target.image is None:
        return range(1)
    return range(target.image.slice_count(run.axis))


def _doubtful(result: Any) -> bool:
    return bool(result.confidence < UNSURE)


def _nothing_written(accepted: Accepted) -> str:
    """Why nothing of the results could be written."""
    return _(
        "Nothing was written: {masked} voxels are masked in the Segment Editor, {others} belong to "
        "other segments. Change its masking settings and accept again, or discard."
    ).format(masked=sum(accepted.masked.values()), others=sum(accepted.left_to_others.values()))


def _told(accepted: Accepted) -> str:
    """What became of the results, in words."""
    text = _("Accepted: {count} voxels added; the Segment Editor's Undo takes them back.").format(
        count=sum(accepted.added.values())
    )
    others = sum(accepted.left_to_others.values())
    masked = sum(accepted.masked.values())
    removed = sum(accepted.removed.values())
    if removed:
        text += " " + _("{count} of earlier results were removed.").format(count=removed)
    if others:
        text += " " + _("{count} were left to other segments.").format(count=others)
    if masked:
        text += " " + _("{count} are masked in the Segment Editor.").format(count=masked)
    return text
