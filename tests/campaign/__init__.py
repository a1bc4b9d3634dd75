"""The campaign: broken and hostile files, killed writers, full disks, readers against writers, by the thousand.

`python -m tests.campaign --minutes N` runs it as long as wanted and prints what was counted; the tests of
tests/test_campaign.py run a few of each. A trial is a function of its seed: what went wrong is seen again with
`python -m tests.campaign --only NAME --seed SEED --trials 1`.

Trials run in processes of their own, with a limit of memory and of time, so that a crash, a hang or a swollen process
is counted, and the rest goes on.
"""
