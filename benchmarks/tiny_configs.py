"""Tiny configurations of every text-generating type of the installed `transformers`."""

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

# Small values for the sizes in configurations; a configuration takes those that it has.
SMALL = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "n_vocab"), 256),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size", "emb_dim", "embed_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "attention_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "n_inner", "dim_ff", "ffn_hidden_size"), 48),
    **dict.fromkeys(("head_dim", "d_kv", "qk_nope_head_dim", "v_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"), 128),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "image_token_id"), 0),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size", "attention_chunk_size"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 4),
    **dict.fromkeys(("n_group", "topk_group", "mamba_n_groups", "first_k_dense_replace"), 1),
    **dict.fromkeys(("mamba_d_state", "mamba_d_head", "linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    "num_experts_per_tok": 2, "mamba_n_heads": 8, "mamba_d_ssm": 64, "word_embed_proj_dim": 32, "lru_width": 32,
    "encoder_attention_heads": 4, "encoder_ffn_dim": 48,
    **dict.fromkeys(("depth", "encoder_layers"), 2),
    **dict.fromkeys(("out_hidden_size", "projection_dim", "mm_hidden_size", "projector_dim", "text_hidden_size"), 32),
    "image_size": 28, "patch_size": 14,
    "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "laurel_rank": 4,
}  # fmt: skip
# Text towers whose tokens have three positions, each for a part of half a head.
THREE_POSITIONS = (
    "qwen2_vl_text", "qwen2_5_vl_text", "glm4v_text", "glm_ocr_text", "paddleocr_vl_text", "qwen2_5_omni_text",
    "hunyuan_vl_text",
)  # fmt: skip
# Further settings of single types: layers of each of their kinds, and sizes that must fit each other.
OWN: dict[str, dict[str, object]] = {
    "gemma3_text": {"num_hidden_layers": 6}, "cohere2": {"num_hidden_layers": 4},
    "exaone4": {"num_hidden_layers": 4}, "olmo3": {"num_hidden_layers": 4}, "smollm3": {"num_hidden_layers": 4},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gemma3n_text": {"num_hidden_layers": 5, "activation_sparsity_pattern": None},
    "stablelm": {"qk_layernorm": True}, "cohere": {"use_qk_norm": True},
    "zamba2": {"num_hidden_layers": 6, "layers_block_type": ["mamba", "hybrid"] * 3,
               "mamba_headdim": 8, "n_mamba_heads": 8},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "mpt": {"no_bias": True}, "zaya": {"num_experts_per_tok": 1},
    "hunyuan_v1_dense": {"head_dim": 8}, "hunyuan_v1_moe": {"head_dim": 8, "moe_topk": 2},
    "ministral": {"head_dim": 8}, "nemotron": {"num_key_value_heads": 2}, "bert-generation": {},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10_000.0},
             "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "cohere_compass_text": {"rope_parameters": {
        kind: {"rope_type": "default", "rope_theta": 10_000.0} for kind in ("full_attention", "sliding_attention")}},
    "zamba": {"num_hidden_layers": 6, "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2},
    **{kind: {"head_dim": 4, "num_key_value_heads": 4} for kind in (
        "minicpm3", "youtu", "deepseek_v3", "deepseek_v32", "axk1", "axk2", "glm4_moe_lite",
        "glm_moe_dsa", "longcat_flash")},
    "deepseek_v2": {"head_dim": 4, "num_key_value_heads": 4, "num_experts_per_tok": 2},
    "ernie4_5_moe": {"moe_k": 2}, "kimi_linear": {"num_experts_per_token": 2},
    "dots3_note_text": {"num_key_value_heads": 4},
    "gemma4_text": {"num_hidden_layers": 4, "num_kv_shared_layers": 2,
                    "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "hrm_text": {"num_layers_per_stack": 2},
    "hunyuan_vl_text": {"head_dim": 8},
    "chameleon": {"vocabulary_map": {"<image>": 4}}, "emu3": {"vocabulary_map": {"<|extra_200|>": 4, "<image>": 5}},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
    "granite4_vision": {"deepstack_layer_map": [[0, 0]], "vision_config": {"hidden_size": 128},
                        "downsample_rate": "1/2"},
    "step3p5": {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"],
                "mlp_layer_types": ["dense", "sparse"], "share_expert_dim": 16},
    "mistral_large4_text": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "dots3_note_vision_encoder": {"mlp_layer_types": ["dense", "dense"], "per_layer_config": {}, "adapter_in_dim": 32,
                                  "adapter_out_dim": 32},
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "emu3_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "attn_resolutions": [1],
                   "codebook_size": 64},
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [16, 16], "moe_k": 2, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}},
    "glm5_next_text": {"num_key_value_heads": 4, "qk_rope_head_dim": 0, "num_experts_per_tok": 2, "index_topk": 32},
    "blip_2_qformer": {"num_hidden_layers": 1},
    "molmo2_adapter": {"vision_feature_layer": [1, 0], "num_key_value_heads": 4},
    "muse_spark_audio": {"num_hidden_layers": 2, "patch_sizes": [4, 4], "hidden_sizes": [16, 32], "depths": [1, 1]},
    "muse_spark_text": {"moe_hidden_size": 32, "num_experts_per_tok": 2},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}, "vision_hidden_size": 32},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}},
    "fun_asr_nano_encoder": {"num_timestamp_prediction_layers": 1},
    "kyutai_speech_to_text": {"codebook_vocab_size": 64, "num_codebooks": 2, "audio_bos_token_id": 2,
                              "audio_pad_token_id": 3, "num_key_value_heads": 4},
    "mimi": {"upsample_groups": 32, "num_filters": 4, "upsampling_ratios": [2, 2], "codebook_size": 64,
             "vector_quantization_hidden_dimension": 8},
    "qwen3_omni_moe": {"talker_config": {"spatial_merge_size": 2}},
    "nemotron3_diarization": {"head_config": {"audio_hidden_size": 32}},
    "nemotron3_5_transcribe_word_timestamp": {"vocab_size": 256, "blank_token_id": 255, "num_key_value_heads": 4},
    "nemotron3_5_transcribe_asr_audio": {"num_key_value_heads": 4},
    "nemotron3_diarization_audio": {"num_key_value_heads": 4},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 16},
    "vibevoice_acoustic_tokenizer_encoder": {
        "num_filters": 4, "downsampling_ratios": [2, 2], "depths": [1, 1, 1]},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16},
    "mistral4": {"head_dim": 12, "num_key_value_heads": 4, "num_experts_per_tok": 2},
    "bailing_hybrid": {"num_expert_group": 1, "num_experts_per_token": 2, "layer_group_size": 2,
                       "num_key_value_heads": 4, "num_shared_experts": 1},
    "glm4v_moe_text": {"head_dim": 16, "num_experts_per_tok": 2, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}},
}  # fmt: skip


def types() -> dict[str, str]:
    """Return the class of every causal type, including multimodal ones."""
    return MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES | MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def small_config(kind: str) -> PretrainedConfig:
    """Return a configuration of a type with tiny sizes."""
    own = OWN.get(kind, {})
    known = AutoConfig.for_model(kind, **{name: own[name] for name in ("text_config",) if name in own})
    config: PretrainedConfig = AutoConfig.for_model(kind, **merge_settings(small_sizes(known), own))
    config.architectures = [types()[kind]]
    return config


def small_sizes(known: PretrainedConfig) -> dict[str, object]:
    """Return the settings that make a configuration and its towers small."""
    known.allow_global_per_layer_attribute_access = True
    mapped = set(getattr(type(known), "attribute_map", {}))
    settings: dict[str, object] = {
        name: value for name, value in SMALL.items() if name not in mapped and is_setting(known, name)
    }
    rotary = getattr(known, "rope_parameters", None)
    if isinstance(rotary, dict) and ("mrope_section" in rotary or known.model_type in THREE_POSITIONS):
        settings["rope_parameters"] = rotary | {"mrope_section": [2, 1, 1]}
    for name in known.sub_configs:
        if isinstance(tower := getattr(known, name, None), PretrainedConfig):
            settings[name] = merge_settings(small_sizes(tower), OWN.get(tower.model_type, {})) | {
                "model_type": tower.model_type
            }
    return settings


def merge_settings(settings: dict[str, object], own: dict[str, object]) -> dict[str, object]:
    """Override settings, in towers too."""
    found = dict(settings)
    for name, value in own.items():
        before = settings.get(name)
        both = isinstance(before, dict) and isinstance(value, dict) and "model_type" in before
        found[name] = before | value if both else value
    return found


def is_setting(config: PretrainedConfig, name: str) -> bool:
    """Return whether a configuration has an integer of this name that may be changed."""
    if isinstance(getattr(type(config), name, None), property):
        return False
    try:
        return type(getattr(config, name, None)) is int
    except AttributeError:  # it has one value for each block
        return False
