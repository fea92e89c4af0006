"""What is known of the speaker and audio event embeddings; see :mod:`voxfide.frontends.specs`."""

from __future__ import annotations

from voxfide.frontends.specs import FRONTENDS, FrontendSpec

_ECAPA = "speechbrain/spkrec-ecapa-voxceleb"
_TITANET = "nvidia/speakerverification_en_titanet_large"

FRONTENDS.register(
    FrontendSpec(
        name="ecapa-tdnn",
        summary="speaker embedding, one an utterance, 1024 channels (the 6 M often cited are 512 channels)",
        place="voxfide.frontends.ecapa:make",
        n_layers=1,
        dim=192,
        n_parameters=20_767_552,
        frame_shift_ms=30_000.0,
        training_data="VoxCeleb 1 and 2",
        licence="Apache-2.0",
        link=f"https://huggingface.co/{_ECAPA}",
        open_condition=True,
        hub_id=_ECAPA,
        weights_file="embedding_model.ckpt",
        citation="Desplanques et al. 2020",
    )
)
FRONTENDS.register(
    FrontendSpec(
        name="titanet-large",
        summary="speaker embedding, one an utterance, without the layer of speaker classes",
        place="voxfide.frontends.titanet:make",
        n_layers=1,
        dim=192,
        n_parameters=22_122_288,
        frame_shift_ms=30_000.0,
        training_data="VoxCeleb 1 and 2, Fisher, Switchboard, LibriSpeech, NIST SRE 2004 to 2010",
        licence="CC-BY-4.0",
        link=f"https://huggingface.co/{_TITANET}",
        open_condition=True,
        hub_id=_TITANET,
        weights_file="speakerverification_en_titanet_large.nemo",
        citation="Koluguri et al. 2022",
    )
)
FRONTENDS.register(
    FrontendSpec(
        name="yamnet",
        summary="audio event embedding of patches of 0.96 s (Combei et al. 2024 list 184 features, not 1024)",
        place="voxfide.frontends.yamnet:make",
        n_layers=1,
        dim=1024,
        n_parameters=3_195_456,
        frame_shift_ms=480.0,
        training_data="AudioSet (not only speech)",
        licence="Apache-2.0",
        link="https://github.com/tensorflow/models/tree/master/research/audioset/yamnet",
        open_condition=True,
        weights_file="https://storage.googleapis.com/audioset/yamnet.h5",
        citation="Plakal and Ellis 2020",
    )
)
FRONTENDS.register(
    FrontendSpec(
        name="ge2e",
        summary="speaker embedding of partials of 1.6 s, Resemblyzer's",
        place="voxfide.frontends.ge2e:make",
        n_layers=1,
        dim=256,
        n_parameters=1_423_616,
        frame_shift_ms=770.0,
        training_data="VoxCeleb 1 and 2, LibriSpeech train-other",
        licence="Apache-2.0",
        link="https://github.com/resemble-ai/Resemblyzer",
        open_condition=True,
        weights_file="pretrained.pt of the package resemblyzer (pip install --no-deps resemblyzer)",
        citation="Wan et al. 2018",
    )
)
