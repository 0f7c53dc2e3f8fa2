// Written by coefficients.py, which documents and checks the error of each polynomial.
// clang-format off: one coefficient a line.
#pragma once

#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// (e^s - 1 - s) / s².
template <class T>
GATEWAVE_CONSTANT T exponential_terms[1] = {};
template <>
GATEWAVE_CONSTANT float exponential_terms<float>[5] = {
    0.5F,
    0.16666576F,
    0.041666552F,
    0.008363233F,
    0.001392625F,
};
template <>
GATEWAVE_CONSTANT double exponential_terms<double>[11] = {
    0.5,
    0.1666666666666667,
    0.04166666666666667,
    0.008333333333326084,
    0.0013888888888883711,
    0.0001984126987500228,
    2.480158732567746e-05,
    2.755725517000089e-06,
    2.755727347871858e-07,
    2.5105312729622103e-08,
    2.09147553258932e-09,
};

// (sin(πr)/(πr) - 1) / r², for r² = square.
template <class T>
GATEWAVE_CONSTANT T sine_terms[1] = {};
template <>
GATEWAVE_CONSTANT float sine_terms<float>[5] = {
    -1.644934F,
    0.81174237F,
    -0.19075006F,
    0.02612806F,
    -0.0022550628F,
};
template <>
GATEWAVE_CONSTANT double sine_terms<double>[9] = {
    -1.6449340668482264,
    0.8117424252833536,
    -0.19075182412208389,
    0.026147847817640922,
    -0.002346081035170168,
    0.00014842878972770888,
    -6.975851212142348e-06,
    2.5303274566671434e-07,
    -7.114052818770147e-09,
};

// sinc'(x) / x, for x² = square.
template <class T>
GATEWAVE_CONSTANT T sinc_slope_terms[1] = {};
template <>
GATEWAVE_CONSTANT float sinc_slope_terms<float>[6] = {
    -3.289868F,
    3.2469697F,
    -1.1445107F,
    0.20918019F,
    -0.023440732F,
    0.0017093053F,
};
template <>
GATEWAVE_CONSTANT double sinc_slope_terms<double>[9] = {
    -3.289868133696453,
    3.2469697011334144,
    -1.1445109447324986,
    0.2091827825409614,
    -0.023460810348857115,
    0.0017811454504394063,
    -9.766178312858364e-05,
    4.0481709751849e-06,
    -1.2767649554481104e-07,
};

// (t + c) e^(t²/2) Φ(-t), for y = (t - c) / (t + c).
template <class T>
GATEWAVE_CONSTANT T normal_terms[1] = {};
template <>
GATEWAVE_CONSTANT float normal_terms<float>[13] = {
    0.75528514F,
    -0.6078966F,
    0.38713738F,
    -0.18652196F,
    0.060396962F,
    -0.0075391005F,
    -0.0034818046F,
    0.0016260686F,
    0.00013848147F,
    -0.00022067176F,
    -7.452316e-06F,
    2.3519186e-05F,
    2.5166537e-06F,
};
template <>
GATEWAVE_CONSTANT double normal_terms<double>[28] = {
    0.7552851304157515,
    -0.6078966419718921,
    0.3871374007422145,
    -0.18652185795965687,
    0.060396574890942384,
    -0.007540188966751488,
    -0.003479692367582582,
    0.0016308184581592471,
    0.00013334431545605622,
    -0.00023109494159814946,
    -1.908286893300388e-06,
    3.514472648890236e-05,
    7.168326110090935e-07,
    -5.920322164841004e-06,
    -6.303336280057708e-07,
    1.0218630157853635e-06,
    2.734283054897671e-07,
    -1.552307634058457e-07,
    -8.81420576046795e-08,
    1.3032841319272253e-08,
    2.255123930749789e-08,
    2.786112982109591e-09,
    -4.3579524226177515e-09,
    -1.5877884680988407e-09,
    5.390831090630815e-10,
    3.4501044006738076e-10,
    -2.676739788017671e-11,
    -3.029132999632076e-11,
};

// Their rounding errors.
template <class T>
GATEWAVE_CONSTANT T normal_rests[1] = {};
template <>
GATEWAVE_CONSTANT float normal_rests<float>[13] = {
    -1.31643105e-08F,
    -1.2717612e-08F,
    -8.10363e-09F,
    -5.563067e-09F,
    -2.505531e-10F,
    -2.2205772e-10F,
    -7.679055e-11F,
    9.940412e-12F,
    -4.4442874e-12F,
    -2.1257998e-12F,
    7.282476e-14F,
    -2.3267273e-14F,
    -1.9230057e-14F,
};
template <>
GATEWAVE_CONSTANT double normal_rests<double>[28] = {
    -2.218149313037409e-17,
    -2.5496013481314723e-17,
    -1.3772791912338493e-19,
    -9.793915399206132e-18,
    -2.5127997912710863e-18,
    1.8702246392698137e-19,
    8.583999232779846e-21,
    -7.542277113118144e-21,
    -4.469028065517063e-21,
    6.907614853928458e-21,
    -9.966970986621547e-23,
    1.9949471281051076e-21,
    -4.701018867636887e-23,
    3.3987371745110663e-22,
    4.842800676694036e-23,
    -9.390394953535459e-23,
    8.218613389057373e-24,
    1.1309196168027504e-23,
    5.649031358816732e-24,
    9.340928412411597e-26,
    1.205970798081784e-24,
    7.652206806640696e-26,
    2.343469295615011e-25,
    9.082565348472831e-26,
    -4.1211375788277593e-26,
    1.9755222862274445e-26,
    7.79210809285711e-28,
    8.295703723447808e-29,
};

// π.
template <class T>
GATEWAVE_CONSTANT Pair<T> pi = {};
template <>
GATEWAVE_CONSTANT Pair<float> pi<float> = {3.1415927F, -8.742278e-08F};
template <>
GATEWAVE_CONSTANT Pair<double> pi<double> = {3.141592653589793, 1.2246467991473532e-16};

// 1/√(2π), the normal density at 0.
template <class T>
GATEWAVE_CONSTANT Pair<T> density = {};
template <>
GATEWAVE_CONSTANT Pair<float> density<float> = {0.3989423F, -1.133517e-08F};
template <>
GATEWAVE_CONSTANT Pair<double> density<double> = {0.3989422804014327, -2.49232720227773e-17};

// 2√(2/π), of the tanh form of GELU.
template <class T>
GATEWAVE_CONSTANT Pair<T> gelu_linear = {};
template <>
GATEWAVE_CONSTANT Pair<float> gelu_linear<float> = {1.5957692F, -4.534068e-08F};
template <>
GATEWAVE_CONSTANT Pair<double> gelu_linear<double> = {1.5957691216057308, -9.96930880911092e-17};

// 0.044715 · 2√(2/π).
template <class T>
GATEWAVE_CONSTANT Pair<T> gelu_cubic = {};
template <>
GATEWAVE_CONSTANT Pair<float> gelu_cubic<float> = {0.071354814F, 2.3988325e-09F};
template <>
GATEWAVE_CONSTANT Pair<double> gelu_cubic<double> = {0.07135481627260025, -6.175149918155315e-19};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
