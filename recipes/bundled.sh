#!/usr/bin/env bash
# Makes the detector that voxfide ships, from manifests with columns label, split, system, family, speaker,
# source_repo and license:
#
#   recipes/bundled.sh OUT MANIFEST...
#
# Split train is what the weights are learnt on; dev is measured on; eval is scored at the end. Every step goes on
# where it was when the script is run again. COMPACT=1 also pre-trains and fine-tunes the compact SSL model that
# docs/bundled.md compares; PRETRAIN, EPOCHS and PRECISION set its length.
set -euo pipefail

out=$1
shift
: "${VOXFIDE:=voxfide}" "${PRETRAIN:=--minutes 58}" "${EPOCHS:=3}" "${PRECISION:=fp32}" "${COMPACT:=}"
channel="noise:snr=5..35 | reverb | media | telephone | reverb + noise:snr=10..30 | media + noise:snr=10..30"
mkdir -p "$out"

# Nothing whose licence is unknown or forbids commercial use or derivatives goes into the weights.
$VOXFIDE select "$@" -o "$out/train.csv" --keep split=train --drop 'license=unknown*' --drop 'license=CC-BY-NC*'
$VOXFIDE select "$@" -o "$out/test.csv" --keep split=dev --keep split=eval

# Further attacks: a third of the human speech made anew by one of seven vocoders. Then every utterance twice
# more, as two channels change it.
$VOXFIDE augment "$out/train.csv" -o "$out/copies" --apply copy-synthesis --label bonafide --fraction 0.35 \
    --keep-original
$VOXFIDE augment "$out/copies/manifest.csv" -o "$out/once" --apply "$channel" --keep-original --seed 1
$VOXFIDE augment "$out/copies/manifest.csv" -o "$out/again" --apply "$channel" --replace --seed 2
awk -F, -v OFS=, 'NR > 1 { $1 = $1 "@2" } 1' "$out/again/manifest.csv" > "$out/again/renamed.csv"
$VOXFIDE select "$out/once/manifest.csv" "$out/again/renamed.csv" "$out/test.csv" -o "$out/all.csv" \
    --keep split=train --keep split=dev

# Trained, and scored out of fold: every utterance by a back-end that knows nothing from its source.
[ -e "$out/moments/config.json" ] || $VOXFIDE train "$out/all.csv" -o "$out/moments" \
    --frontend lfcc-moments --backend kernel --option landmarks=2000 --option C=100 --balance system \
    --shares family=vocoder:3,tts:4,classical:3,copy-synthesis:2 --cross-validate source_repo --folds 10
$VOXFIDE shrink "$out/moments" -o "$out/small"

# Calibrated on out-of-fold scores of human speech and of neural systems: signal processing alone is easily told.
$VOXFIDE select "$out/all.csv" -o "$out/calibration.csv" --keep split=train \
    --drop family=classical --drop family=copy-synthesis
awk -F'[,\t]' 'NR == FNR { kept[$1]; next } FNR == 1 || $1 in kept' \
    "$out/calibration.csv" "$out/moments/cross_validated.tsv" > "$out/calibration.tsv"
rm -rf "$out/detector"
$VOXFIDE calibrate "$out/small" "$out/calibration.tsv" --key "$out/calibration.csv" --groups source_repo --force \
    -o "$out/detector"
$VOXFIDE domain "$out/detector" "$out/train.csv" --groups speaker --augment "$channel"

for split in dev eval; do
    $VOXFIDE score "$out/detector" "$out/test.csv" --split "$split" -o "$out/$split.tsv"
    $VOXFIDE evaluate "$out/$split.tsv" --key "$out/test.csv" --split "$split" --by system --clusters speaker \
        -o "$out/report-$split"
done

[ -n "$COMPACT" ] || exit 0
# The compact HuBERT: pre-trained on the human speech alone, then fine-tuned.
$VOXFIDE select "$out/train.csv" -o "$out/human.csv" --keep label=bonafide
if [ ! -e "$out/ssl/pretraining.json" ]; then
    resume=$([ -d "$out/ssl/run" ] && echo --resume || true)
    # shellcheck disable=SC2086  # several options
    $VOXFIDE pretrain "$out/human.csv" -o "$out/ssl" $PRETRAIN $resume --precision "$PRECISION" \
        --batch-seconds 24 --crop-seconds 6 --lr 7e-4 --warmup 0.05 --unmasked-weight 0.5 --conv-gradient 1 \
        --mask-prob 0.5 --mix-prob 0.3 --noise-share 0.4
fi
$VOXFIDE select "$out/once/manifest.csv" "$out/test.csv" -o "$out/once.csv" --keep split=train --keep split=dev
if [ ! -e "$out/compact/config.json" ]; then
    resume=$([ -d "$out/compact" ] && echo --resume || true)
    # shellcheck disable=SC2086
    $VOXFIDE finetune "$out/once.csv" -o "$out/compact" --frontend "$out/ssl" $resume --precision "$PRECISION" \
        --epochs "$EPOCHS" --batch-size 16 --crop 2 --learning-rate 3e-4 --weight-decay 0.01 --train-convolutions \
        --class-weights balanced
fi
for split in dev eval; do
    $VOXFIDE score "$out/compact" "$out/test.csv" --split "$split" -o "$out/compact-$split.tsv"
    $VOXFIDE evaluate "$out/compact-$split.tsv" --key "$out/test.csv" --split "$split" --clusters speaker
done
