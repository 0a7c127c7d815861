/*
 * DistilBERT: BERT's block under its own tensor names, without token types and without a pooler; its classification head is
 * dense, relu, projection. Positions are a table in the file, whatever sinusoidal_pos_embds says of how they were made.
 *
 * Source: Sanh et al. 2019; Hugging Face DistilBertConfig, DistilBertForSequenceClassification.
 */
#include "family.h"

#include <stdio.h>

static pac_err read_block(const hf_config *c, pac_block_cfg *b)
{
    PAC_TRY(pac_hf_int(c, "dim", 1, PAC_MAX_WIDTH, 0, &b->D));
    PAC_TRY(pac_hf_int(c, "hidden_dim", 1, PAC_MAX_WIDTH, 0, &b->F));
    PAC_TRY(pac_family_heads(c, "n_heads", b));
    b->eps = 1e-12f; /* no key of the configuration */
    b->norm = PAC_NORM_LAYER;
    b->post_norm = b->biases = true;
    return pac_family_act(c, "activation", &b->act);
}

static pac_err read_config(const hf_config *c, pac_model_desc *d)
{
    double std;
    PAC_TRY(pac_family_only(c, "is_encoder_decoder", false));
    PAC_TRY(pac_hf_int(c, "vocab_size", 2, PAC_MAX_VOCAB, 0, &d->vocab));
    PAC_TRY(pac_hf_token(c, "pad_token_id", d->vocab, 0, &d->pad_id));
    d->eos_id = d->start_id = d->pad_id; /* there is no decoder, and the head reads the first row */
    PAC_TRY(pac_hf_int(c, "n_layers", 1, PAC_MAX_BLOCKS, 0, &d->layers[PAC_ENC]));
    PAC_TRY(read_block(c, &d->block[PAC_ENC]));
    PAC_TRY(pac_hf_int(c, "max_position_embeddings", 1, PAC_MAX_WIDTH, 512, &d->max_positions));
    PAC_TRY(pac_hf_number(c, "initializer_range", 0.02, &std));
    d->init_std = (float)std;
    d->embed_norm = d->pad_frozen = d->head_first = true;
    d->head_act = PAC_ACT_RELU;
    return PAC_OK;
}

#define B(field) offsetof(pac_block_weights, field)
#define R(field) offsetof(pac_riders, field)
#define LAYER    "transformer.layer.#."
#define TABLE(name, field, dims)                                                                                               \
    {                                                                                                                          \
        PAC_T_FIRST, PAC_ENC, PAC_WHEN_ALWAYS, "embeddings." name ".weight", R(field.w), dims, "~", 0                          \
    }
#define LINEAR(name, field, out, in)                                                                                           \
    {PAC_T_BLOCK, PAC_ENC, PAC_WHEN_ALWAYS, LAYER name ".weight", B(field.w), out in, "~", 0},                                 \
    {                                                                                                                          \
        PAC_T_BLOCK, PAC_ENC, PAC_WHEN_ALWAYS, LAYER name ".bias", B(field.b), out, "=0", 0                                    \
    }
#define NORM(scope, name, weight, bias)                                                                                        \
    {scope, PAC_ENC, PAC_WHEN_ALWAYS, name ".weight|" name ".gamma", weight, "D", "=1", 0},                                    \
    {                                                                                                                          \
        scope, PAC_ENC, PAC_WHEN_ALWAYS, name ".bias|" name ".beta", bias, "D", "=0", 0                                        \
    }

static const pac_tensor_rule rules[] = {
    TABLE("word_embeddings", embed, "VD"),
    TABLE("position_embeddings", positions, "PD"),
    NORM(PAC_T_FIRST, "embeddings.LayerNorm", R(embed_norm.w), R(embed_norm.b)),
    LINEAR("attention.q_lin", self.q, "I", "D"),
    LINEAR("attention.k_lin", self.k, "I", "D"),
    LINEAR("attention.v_lin", self.v, "I", "D"),
    LINEAR("attention.out_lin", self.o, "D", "I"),
    NORM(PAC_T_BLOCK, LAYER "sa_layer_norm", B(self.norm.w), B(self.norm.b)),
    LINEAR("ffn.lin1", wi, "F", "D"),
    LINEAR("ffn.lin2", wo, "D", "F"),
    NORM(PAC_T_BLOCK, LAYER "output_layer_norm", B(ff_norm.w), B(ff_norm.b)),
    {PAC_T_DENSE, PAC_ENC, PAC_WHEN_ALWAYS, "pre_classifier.weight", 0, "DD", "~", PAC_T_BARE | PAC_T_OPTIONAL},
    {PAC_T_DENSE, PAC_ENC, PAC_WHEN_ALWAYS, "pre_classifier.bias", 0, "D", "=0", PAC_T_BARE | PAC_T_OPTIONAL},
    {.names = NULL},
};

/* Files of models with a head, DistilBertModel's. */
static const char *const prefixes[] = {"distilbert.", "", NULL};

/* ---- shapes by name ---- */

static const char *const shape_names[] = {"distilbert-base", NULL};

static int shape_config(int i, char *text, size_t size)
{
    (void)i;
    return snprintf(text, size,
                    "{\n  \"architectures\": [\"DistilBertForSequenceClassification\"],\n  \"model_type\": \"distilbert\",\n"
                    "  \"vocab_size\": 30522,\n  \"dim\": 768,\n  \"hidden_dim\": 3072,\n  \"n_layers\": 6,\n"
                    "  \"n_heads\": 12,\n  \"activation\": \"gelu\",\n  \"max_position_embeddings\": 512,\n"
                    "  \"initializer_range\": 0.02,\n  \"dropout\": 0.1,\n  \"pad_token_id\": 0\n}\n");
}

const pac_family pac_family_distilbert = {.name = "distilbert",
                                          .prefixes = prefixes,
                                          .rules = rules,
                                          .read_config = read_config,
                                          .shapes = shape_names,
                                          .shape_config = shape_config};
