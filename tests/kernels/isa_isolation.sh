#!/bin/sh
# Kernels compiled for an instruction set may define nothing that the linker could take for the
# whole program: every weak symbol must be of that instruction set's own namespace.
# usage: isa_isolation.sh ISA OBJECT...
isa=$1
shift
shared=$(nm -C --defined-only "$@" | grep -E '^[0-9a-f]+ [VWu] ' |
  grep -v -e "stoker::cpu::${isa}::" -e 'DW\.ref\.' -e '__asan\|__ubsan\|__odr_asan')
if [ -n "$shared" ]; then
  echo "weak symbols compiled for ${isa} that other code may define too:"
  echo "$shared"
  exit 1
fi
