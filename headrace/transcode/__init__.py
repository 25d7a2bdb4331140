"""One master becomes tracks that are ready to be packaged: every rung, every sound, text and pictures.

==============  =============================================================
``ladder``      which rungs, at which rate, level and peak            pure
``argv``        the ffmpeg command of a plan, each flag with reason   pure
``damage``      how much of a film that decodes with errors is shown wrong
``subtitles``   text subtitles become WebVTT
``pictures``    poster, storyboard sprite and its WebVTT
``encode``      run it: progress, limits, what the exit status means
==============  =============================================================

1. One ffmpeg decodes the master once and makes all rungs and all sounds.
2. All rungs have the same constant rate and their IDR frames at the same frame numbers.
3. The bytes depend on the master, the recipe, the tools' versions and the threads only.
"""

from headrace.transcode.encode import Plan, encode, plan_encode
from headrace.transcode.ladder import Rung, plan_ladder

__all__ = ["Plan", "Rung", "encode", "plan_encode", "plan_ladder"]
