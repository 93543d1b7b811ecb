# Loops over columns of all nodes: what -O2 neither inlines nor turns into vector instructions. The same
# numbers come out: no fast-math, and -ffp-contract=off stays.
target_compile_options(orc_sched PRIVATE $<$<CONFIG:Release>:-O3>)
