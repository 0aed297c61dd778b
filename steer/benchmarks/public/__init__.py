"""The public benchmarks: one file each, with the data set that it is read from and what one row becomes."""

from steer.benchmarks.public.acpbench import ACPBENCH
from steer.benchmarks.public.aime import AIME
from steer.benchmarks.public.gsm8k import GSM8K
from steer.benchmarks.public.kor_bench import KOR_BENCH
from steer.benchmarks.public.math500 import MATH500
from steer.benchmarks.public.musique import MUSIQUE
from steer.benchmarks.public.omni_math import OMNI_MATH
from steer.benchmarks.public.svamp import SVAMP

PUBLIC = {d.name: d for d in (MATH500, OMNI_MATH, AIME, ACPBENCH, MUSIQUE, KOR_BENCH, GSM8K, SVAMP)}
"""The paper's six benchmarks, and two of school mathematics on which a small model is not lost."""
