#!/usr/bin/env bash
# Makes the detector that voxfide ships, from manifests with columns label, split, system, speaker and license:
#
#   recipes/bundled.sh OUT MANIFEST...
#
# Splits train (which the weights are learnt on), dev (which chooses, fuses and calibrates) and eval (which is
# scored once, at the end). Every step goes on where it was when the script is run again. Sizes and times can be
# set from outside: PRETRAIN (options of the length of pre-training), EPOCHS, PRECISION.
set -euo pipefail

out=$1
shift
: "${VOXFIDE:=voxfide}" "${PRETRAIN:=--minutes 58}" "${EPOCHS:=3}" "${PRECISION:=fp32}"
channel="noise:snr=5..35 | reverb | media | telephone | reverb + noise:snr=10..30 | media + noise:snr=10..30"
mkdir -p "$out"

# Nothing whose licence is unknown or forbids commercial use or derivatives goes into the weights.
$VOXFIDE select "$@" -o "$out/train.csv" --keep split=train --drop 'license=unknown*' --drop 'license=CC-BY-NC*'
$VOXFIDE select "$@" -o "$out/test.csv" --keep split=dev --keep split=eval
$VOXFIDE select "$out/train.csv" -o "$out/human.csv" --keep label=bonafide

# A compact HuBERT on the human speech alone.
if [ ! -e "$out/ssl/pretraining.json" ]; then
    resume=$([ -d "$out/ssl/run" ] && echo --resume || true)
    # shellcheck disable=SC2086  # several options
    $VOXFIDE pretrain "$out/human.csv" -o "$out/ssl" $PRETRAIN $resume --precision "$PRECISION" \
        --batch-seconds 24 --crop-seconds 6 --lr 7e-4 --warmup 0.05 --unmasked-weight 0.5 --conv-gradient 1 \
        --mask-prob 0.5 --mix-prob 0.3 --noise-share 0.4
fi

# Further attacks: a third of the human speech made anew by one of seven vocoders. Then every utterance a second
# time, as channels change it.
$VOXFIDE augment "$out/train.csv" -o "$out/copies" --apply copy-synthesis --label bonafide --fraction 0.35 \
    --keep-original
$VOXFIDE augment "$out/copies/manifest.csv" -o "$out/channels" --apply "$channel" --keep-original --seed 1
$VOXFIDE select "$out/channels/manifest.csv" "$out/test.csv" -o "$out/all.csv" --keep split=train --keep split=dev

# The members.
[ -e "$out/moments/config.json" ] || $VOXFIDE train "$out/all.csv" -o "$out/moments" \
    --frontend lfcc-moments --backend kernel --balance system
if [ ! -e "$out/compact/config.json" ]; then
    resume=$([ -d "$out/compact" ] && echo --resume || true)
    $VOXFIDE finetune "$out/all.csv" -o "$out/compact" --frontend "$out/ssl" $resume --precision "$PRECISION" \
        --epochs "$EPOCHS" --batch-size 16 --crop 2 --learning-rate 3e-4 --weight-decay 0.01 --train-convolutions \
        --class-weights balanced
fi

# Half precision, scores of the development set, fusion, calibration, domain.
for member in moments compact; do
    $VOXFIDE shrink "$out/$member" -o "$out/small-$member"
    $VOXFIDE score "$out/small-$member" "$out/test.csv" --split dev -o "$out/dev-$member.tsv"
done
$VOXFIDE fuse "$out/dev-moments.tsv" "$out/dev-compact.tsv" --key "$out/test.csv" --split dev --groups speaker \
    --prior 0.5 --C 1 -o "$out/fusion.json"
$VOXFIDE ensemble "$out/small-moments" "$out/small-compact" --fusion "$out/fusion.json" -o "$out/detector"
$VOXFIDE score "$out/detector" "$out/test.csv" --split dev -o "$out/dev.tsv"
$VOXFIDE calibrate "$out/detector" "$out/dev.tsv" --key "$out/test.csv" --split dev --groups speaker
$VOXFIDE domain "$out/detector" "$out/train.csv" --groups speaker --augment "$channel"

# The last word.
$VOXFIDE score "$out/detector" "$out/test.csv" --split eval -o "$out/eval.tsv"
$VOXFIDE evaluate "$out/eval.tsv" --key "$out/test.csv" --split eval --by system --clusters speaker -o "$out/report"
