"""Networks that run_zoo.py visits: "LIBRARY:NAME", then options of its constructor."""

TORCHVISION = (
    "resnet18", "resnet50", "resnext50_32x4d", "vgg11", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf",
    "shufflenet_v2_x0_5", "squeezenet1_1", "googlenet", "inception_v3", "mnasnet0_5",
    "vit_b_16", "swin_t", "maxvit_t",
)  # fmt: skip
TIMM_CNNS = (
    "resnet10t", "resnetv2_50", "seresnet18", "ecaresnet26t", "skresnet18", "resnest14d",
    "res2net50_26w_4s", "dla34", "dpn48b", "hrnet_w18_small", "densenet121", "vgg11_bn",
    "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small", "efficientnet_lite0",
    "tf_efficientnetv2_b0", "mixnet_s", "fbnetc_100", "ghostnet_050", "lcnet_050", "tinynet_e",
    "rexnet_100", "regnetx_002", "regnety_002", "convnext_atto", "convnextv2_atto",
    "repvgg_a0", "cspresnet50", "darknet53", "xception41", "inception_next_tiny",
    "edgenext_xx_small", "starnet_s1", "fasternet_t0", "inception_v4",
)  # fmt: skip
TIMM_TRANSFORMERS = (
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "cait_xxs24_224",
    "xcit_nano_12_p16_224", "pvt_v2_b0", "mobilevit_xxs", "levit_128s", "coat_lite_tiny",
    "poolformer_s12", "maxvit_pico_rw_256", "crossvit_tiny_240", "twins_pcpvt_small",
    "eva02_tiny_patch14_224", "tiny_vit_5m_224", "efficientformer_l1",
)  # fmt: skip
# Families with attention, pooling or tokens of their own, and towers that come without classes.
TIMM_SPECIAL = (
    "hiera_tiny_224", "nest_tiny", "volo_d1_224", "resnet18 global_pool=avgmax",
    "resnet18 global_pool=catavgmax", "resnet50_clip", "vit_pe_core_tiny_patch16_384",
    "vit_small_patch14_dinov2 num_classes=10 img_size=224",
    "vit_small_patch14_reg4_dinov2 num_classes=10 img_size=224",
    "vit_small_patch16_dinov3 num_classes=10", "vit_base_patch16_siglip_224 num_classes=10",
    "vit_base_patch16_siglip_gap_224 num_classes=10", "vit_tiny_patch16_224 global_pool=avg",
    "vit_base_patch16_clip_224", "vitamin_small_224", "test_vit4",
)  # fmt: skip
TIMM_RECENT = (
    "csatv2", "swiftformer_xs", "rdnet_tiny", "mambaout_femto", "efficientvit_b0",
    "efficientvit_m0", "fastvit_t8", "repvit_m0_9", "shvit_s1", "hgnetv2_b0", "ghostnetv3_050",
    "gcvit_xxtiny", "davit_tiny", "focalnet_tiny_srf", "mvitv2_tiny", "convformer_s18",
    "caformer_s18", "vit_wee_patch16_reg1_gap_256", "vit_small_patch16_rope_224", "nextvit_small",
    "sequencer2d_s", "tnt_s_patch16_224", "pit_ti_224", "convit_tiny", "visformer_tiny",
    "regnetz_005", "nf_regnet_b0", "coatnet_nano_rw_224", "resmlp_12_224", "halonet26t",
    "mobilenetv4_hybrid_medium",
)  # fmt: skip
ALL = (
    *(f"torchvision:{name}" for name in TORCHVISION),
    *(f"timm:{name}" for name in (*TIMM_CNNS, *TIMM_TRANSFORMERS, *TIMM_SPECIAL, *TIMM_RECENT)),
)
