#!/bin/sh
# usage: compiled.sh default|asked VERSION ARCH,ARCH... OBJECT...    nvcc compiled the kernels: every object has what docs/cuda.md promises
#        compiled.sh without OPTION NVCC                             it did not; OPTION: meson's -Dcuda, NVCC: empty, or where meson found it
# Every object must hold machine code for each architecture, and PTX for the first and the last. Where there is an nvcc, a build without CUDA
# is an error unless it was asked for; else that is skipped (77).
set -u
if [ "$1" = without ]; then
    nvcc=${3:-$(command -v nvcc)}
    [ "$2" != disabled ] || { echo "SKIP -Dcuda=disabled was asked for: nothing of cuda/ was compiled for a GPU"; exit 77; }
    [ -z "$nvcc" ] || { echo "there is $nvcc, but this build is without CUDA: see what meson setup said of it, or ask for -Dcuda=disabled"; exit 1; }
    echo "SKIP there is no nvcc: nothing of cuda/ was compiled for a GPU"
    exit 77
fi
list=$1 version=$2 wanted=$3
shift 3
failed=0
case $version in
10.*) promised=53,62,72,75 ;;
11.[0-7]*) promised=53,72,75,80 ;;
*) promised=75,87,90 ;;
esac
[ "$list" = asked ] || [ "$wanted" = $promised ] || { echo "for CUDA $version $wanted were chosen, not $promised"; failed=1; }
expected=$(echo "$wanted" | awk -F, '{ for (i = 1; i <= NF; i++) print "sm_" $i; print "compute_" $1; print "compute_" $NF }' | LC_ALL=C sort -u | tr '\n' ' ')
# The fat binary of an object: a magic number, 16 bits of version and of header size, 64 bits of length; then an entry for each piece of
# code: 16 bits of kind (1 PTX, 2 machine code), at 4 the header's size, at 8 that of the code, at 28 the architecture.
holds() { # OBJECT
    od -An -v -tu4 -w4 "$1" | awk '
        { word[n++] = $1 + 0 }
        END {
            for (i = 0; i < n; i++) {
                if (word[i] != 3126193488)
                    continue
                end = i + (int(word[i + 1] / 65536) + word[i + 2]) / 4
                for (e = i + int(word[i + 1] / 65536) / 4; e < end && word[e + 1] > 0; e += (word[e + 1] + word[e + 2]) / 4)
                    print (word[e] % 65536 == 2 ? "sm_" : "compute_") word[e + 7]
                i = end - 1
            }
        }' | LC_ALL=C sort -u | tr '\n' ' '
}
for object in "$@"; do
    found=$(holds "$object")
    [ "$found" = "$expected" ] || { echo "$object has code for ${found:-nothing}, not $expected"; failed=1; }
done
[ $# -gt 0 ] || { echo "no objects"; failed=1; }
echo "CUDA $version, $# objects with code for $expected"
exit $failed
